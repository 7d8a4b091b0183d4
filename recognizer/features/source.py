"""The stream of encoded batches, some images of which are read from stored features instead of their files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from recognizer.encoder import Encoder, ImageFeatures
from recognizer.encoder.features import area_share
from recognizer.features.store import FeatureStore, Known
from recognizer.features.stored_image import StoredFailure, StoredImage
from recognizer.images import ImageError, ImageItem, ImageLimits
from recognizer.pipeline import EncodedBatch, NumberedItems, encode_files

# Batches that are looked up while others are encoded and scored: two keep the thread busy.
READ_AHEAD = 2


def encode_or_read(
    encoder: Encoder,
    batches: Iterable[NumberedItems],
    *,
    features: FeatureStore | None,
    workers: int = 0,
    limits: ImageLimits | None = None,
) -> Iterator[EncodedBatch]:
    """Yield the features of image files, in order, batch by batch, as `encode_files` does.

    Args:
        encoder: encodes what is not stored.
        batches: number and images of each batch.
        features: the stored ones, to which those of the other images are added; None: all images are encoded.
        workers: as for `encode_files`.
        limits: those of `features`, where it is not None.
    """
    if features is None:
        return encode_files(encoder, batches, workers=workers, limits=limits)
    return _encode_or_read(encoder, batches, features, workers, limits)


def _encode_or_read(
    encoder: Encoder,
    batches: Iterable[NumberedItems],
    features: FeatureStore,
    workers: int,
    limits: ImageLimits | None,
) -> Iterator[EncodedBatch]:
    reader = ThreadPoolExecutor(1, thread_name_prefix="features")
    waiting: dict[int, _LookedUp] = {}

    def look_up(number: int, items: Sequence[ImageItem]) -> _LookedUp:
        known = features.look_up(items)
        complete = all(one.stored is not None for one in known)
        return _LookedUp(items, known, _join(_nothing(number), items, known) if complete else None)

    def unknown() -> Iterator[NumberedItems]:
        remaining = iter(batches)
        ahead: deque[tuple[int, Sequence[ImageItem], Future[_LookedUp]]] = deque()
        while True:
            for number, items in islice(remaining, READ_AHEAD - len(ahead)):
                ahead.append((number, items, reader.submit(look_up, number, items)))
            if not ahead:
                return
            number, items, future = ahead.popleft()
            waiting[number] = looked_up = future.result()
            yield number, [item for item, one in zip(items, looked_up.known, strict=True) if one.stored is None]

    try:
        for fresh in encode_files(encoder, unknown(), workers=workers, limits=limits):
            done = waiting.pop(fresh.number)
            if done.joined is not None:
                yield done.joined
                continue
            features.keep(fresh, [one for one in done.known if one.stored is None])
            yield fresh if len(fresh.items) == len(done.items) else _join(fresh, done.items, done.known)
    finally:
        reader.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True, eq=False)
class _LookedUp:
    """The images of a batch, what is known of each, and the whole batch where all of them are stored."""

    items: Sequence[ImageItem]
    known: Sequence[Known]
    joined: EncodedBatch | None


def _nothing(number: int) -> EncodedBatch:
    """Return a batch without images."""
    return EncodedBatch(number, [], [], [], None, [], [], decode_s=0.0, encode_s=0.0)


def _join(fresh: EncodedBatch, items: Sequence[ImageItem], known: Sequence[Known]) -> EncodedBatch:
    """Put stored images into the batch of the others, each at its place."""
    places = [position for position, one in enumerate(known) if one.stored is None]
    errors: list[ImageError | None] = [None] * len(items)
    for place, error in zip(places, fresh.errors, strict=True):
        errors[place] = error
    encoded = {places[position]: row for row, position in enumerate(fresh.positions)}
    stored: dict[int, StoredImage] = {}
    for place, one in enumerate(known):
        if isinstance(one.stored, StoredFailure):
            errors[place] = ImageError(one.stored.code, one.stored.reason)
        elif one.stored is not None:
            stored[place] = one.stored
    positions = sorted([*encoded, *stored])
    rows = [stored[place] if place in stored else encoded[place] for place in positions]
    return EncodedBatch(
        number=fresh.number,
        items=items,
        errors=errors,
        positions=positions,
        features=_features(fresh.features, rows) if rows else None,
        hashes=[row.sha256 if isinstance(row, StoredImage) else fresh.hashes[row] for row in rows],
        sizes_hw=[row.size_hw if isinstance(row, StoredImage) else fresh.sizes_hw[row] for row in rows],
        decode_s=fresh.decode_s,
        encode_s=fresh.encode_s,
    )


def _features(fresh: ImageFeatures | None, rows: Sequence[StoredImage | int]) -> ImageFeatures:
    """Gather features; regions that are not stored are zeros of weight 0, so the others keep their numbers.

    Args:
        fresh: features of images that were encoded; None if there are none.
        rows: (B,) per image the stored one, or its row in `fresh`.
    """
    stored = next((row for row in rows if isinstance(row, StoredImage)), None)
    if stored is not None:
        regions, dim = stored.region_count, len(stored.image)
    else:  # the stored ones among them are failures
        assert fresh is not None
        regions, dim = fresh.regions.shape[1:]
    count = len(rows)
    # Vectors are float16 whether they were stored or not; all are converted at once, by torch, which is many times as
    # fast as NumPy.
    image, vectors = np.empty((count, dim), np.float16), np.zeros((count, regions, dim), np.float16)
    boxes_xyxy, weight = np.zeros((count, regions, 4), np.float32), np.zeros((count, regions), np.float32)
    area = np.zeros((count, regions), np.float32)
    for place, row in enumerate(rows):
        if isinstance(row, StoredImage):
            image[place] = row.image
            vectors[place, row.numbers] = row.regions
            boxes_xyxy[place, row.numbers] = row.boxes_xyxy
            weight[place, row.numbers] = row.weights
            area[place, row.numbers] = area_share(row.boxes_xyxy, row.size_hw)
        elif fresh is not None:
            image[place] = fresh.image[row]
            vectors[place] = fresh.regions[row]
            boxes_xyxy[place] = fresh.boxes_xyxy[row]
            weight[place] = fresh.region_weight[row]
            area[place] = fresh.region_area[row]
    return ImageFeatures(
        image=torch.from_numpy(image).float().numpy(),
        regions=torch.from_numpy(vectors).float().numpy(),
        boxes_xyxy=boxes_xyxy,
        region_weight=weight,
        region_area=area,
    )
