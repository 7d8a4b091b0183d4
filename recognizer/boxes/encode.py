"""Features of boxes: each is cut out and encoded as an image, and the regions of the whole image at its place join in.

A crop is an image of its own: its vector is the image vector of the score, and its regions are those of the score, as
far as they lie in the box. Where the encoder has a grounding decoder, the regions that it finds in the whole image
count too if they fit the box: they have seen the surroundings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from recognizer.boxes.crop import cut_box
from recognizer.boxes.given import Box
from recognizer.boxes.plan import BoxItem
from recognizer.encoder import Encoder, Frame, ImageFeatures
from recognizer.encoder.boxes import pairwise_iou
from recognizer.features import FeatureStore, encode_or_read
from recognizer.images import ImageError, ImageItem
from recognizer.pipeline import Decoded, EncodedBatch, encode_ahead, encode_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recognizer.images.workers import WorkerPool
    from recognizer.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBoxes(EncodedBatch):
    """A batch of boxes.

    Attributes:
        boxes: per item the box in pixels of the displayed image; None for an image without a box, and where there is an
            error.
    """

    boxes: Sequence[Box | None]


_Cut = tuple[Decoded, Box] | ImageError | None
"""Of one item: the crop with its box, why there is none, or None for an image without a box."""


def encode_boxes(
    encoder: Encoder,
    batches: Iterable[tuple[int, Sequence[BoxItem]]],
    *,
    settings: Settings,
    features: FeatureStore | None = None,
) -> Iterator[EncodedBoxes]:
    """Encode boxes, in order, batch by batch; later ones are cut out meanwhile.

    An image is decoded once for all its boxes in a batch.

    Args:
        encoder: encodes the crops.
        batches: number and boxes of each batch; boxes of one image are neighbours.
        settings: of the crops, and of decoding.
        features: stored features of whole images, which are used and added to.
    """
    # Without a decoder nobody reads the second one, which would keep all that the first has read.
    for_crops, for_images = itertools.tee(batches) if encoder.has_decoder else (batches, iter(()))
    groups = ((number, _by_image(items)) for number, items in for_crops)

    def encode(number: int, own: Sequence[list[BoxItem]], cuts: Sequence[list[_Cut]], seconds: float) -> EncodedBoxes:
        chain = itertools.chain.from_iterable
        return _encode(encoder, number, list(chain(own)), list(chain(cuts)), seconds)

    crops = encode_ahead(groups, lambda pool, own: _cut(pool, encoder, own, settings), encode, settings.run.workers)
    if not encoder.has_decoder:
        yield from crops
        return
    images = ((number, [_image(own[0]) for own in _opened(items)]) for number, items in for_images)
    whole = encode_or_read(encoder, images, features=features, workers=settings.run.workers, limits=settings.images)
    for batch, seen in zip(crops, whole, strict=True):
        yield _with_regions(batch, seen, settings.boxes.region_overlap)


def _by_image(items: Sequence[BoxItem]) -> list[list[BoxItem]]:
    # A box whose image is refused may stand behind the row of that image.
    alike = itertools.groupby(items, key=lambda item: (item.key_bytes, item.box is None, item.problem is None))
    return [list(own) for _, own in alike]


def _opened(items: Sequence[BoxItem]) -> list[list[BoxItem]]:
    """Return the items by image without those whose image is not opened."""
    return [own for own in _by_image(items) if own[0].box is not None and own[0].problem is None]


def _image(item: BoxItem) -> ImageItem:
    return ImageItem(item.key_bytes, item.path)


def _cut(pool: WorkerPool, encoder: Encoder, items: Sequence[BoxItem], settings: Settings) -> list[_Cut]:
    """Decode one image and cut its boxes out."""
    if items[0].problem is not None:
        return [item.problem for item in items]
    if items[0].box is None:
        return [None]
    try:
        # In full size: a small box of a large photograph has no pixels to lose.
        decoded = pool.decode(items[0].path, limits=settings.images)
    except ImageError as error:
        return [error] * len(items)
    cuts: list[_Cut] = []
    for item in items:
        assert item.box is not None
        try:
            box = item.box.displayed(decoded.displayed_size_hw)
        except ImageError as error:
            cuts.append(error)
            continue
        cut = cut_box(decoded.image, box, margin=settings.boxes.margin, blur=settings.boxes.blur, fill=encoder.fit.fill)
        pixels, frame = encoder.preprocess(cut.image)
        cuts.append(
            (
                Decoded(pixels, _in_image(frame, cut.corner_xy, cut.scale, decoded.displayed_size_hw), decoded.sha256),
                box,
            )
        )
    return cuts


def _in_image(frame: Frame, corner_xy: tuple[float, float], scale: float, size_hw: tuple[int, int]) -> Frame:
    """Return the frame of a crop's input in the whole image, for boxes of the image and what is visible of it."""
    (offset_x, offset_y), (scale_x, scale_y) = frame.offset_xy, (frame.scale_xy[0] * scale, frame.scale_xy[1] * scale)
    return Frame(
        displayed_size_hw=size_hw,
        offset_xy=(offset_x - corner_xy[0] / scale_x, offset_y - corner_xy[1] / scale_y),
        scale_xy=(scale_x, scale_y),
    )


def _encode(
    encoder: Encoder, number: int, items: Sequence[BoxItem], cuts: Sequence[_Cut], seconds: float
) -> EncodedBoxes:
    cut_places = [place for place, cut in enumerate(cuts) if isinstance(cut, tuple)]
    encoded = encode_batch(
        encoder,
        number,
        [items[place] for place in cut_places],
        [cut[0] for cut in cuts if isinstance(cut, tuple)],
        seconds,
    )
    boxes = [cut[1] if isinstance(cut, tuple) else None for cut in cuts]
    features = encoded.features
    if features is not None:
        given = np.array([box for box in boxes if box is not None], np.float32)
        inside = share_inside(features.boxes_xyxy, given)
        features = replace(features, region_weight=features.region_weight * inside)
    return EncodedBoxes(
        number=number,
        items=items,
        errors=[cut if isinstance(cut, ImageError) else None for cut in cuts],
        positions=cut_places,
        features=features,
        hashes=encoded.hashes,
        sizes_hw=encoded.sizes_hw,
        decode_s=seconds,
        encode_s=encoded.encode_s,
        boxes=boxes,
    )


def share_inside(regions_xyxy: NDArray[np.float32], boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (B, Q) shares of the area of regions (B, Q, 4) that lie inside of one box each (B, 4); 0 without area."""
    x0, y0, x1, y1 = np.moveaxis(regions_xyxy, -1, 0)
    left, top, right, bottom = np.moveaxis(boxes_xyxy[:, None], -1, 0)
    width = np.clip(np.minimum(x1, right) - np.maximum(x0, left), 0, None)
    height = np.clip(np.minimum(y1, bottom) - np.maximum(y0, top), 0, None)
    area = (x1 - x0) * (y1 - y0)
    return np.asarray(np.divide(width * height, area, out=np.zeros_like(area), where=area > 0), np.float32)


def _with_regions(batch: EncodedBoxes, whole: EncodedBatch, overlap: float) -> EncodedBoxes:
    """Let the regions of whole images join those of the crops where they fit the box; the others get the weight 0."""
    if batch.features is None:
        return replace(batch, encode_s=batch.encode_s + whole.encode_s)
    rows = {whole.items[position].key_bytes: row for row, position in enumerate(whole.positions)}
    failed = {item.key_bytes: error for item, error in zip(whole.items, whole.errors, strict=True) if error is not None}
    errors, boxes = list(batch.errors), list(batch.boxes)
    for position in batch.positions:  # decoded for its crops, and not a moment later for itself: out of time or memory
        error = failed.get(batch.items[position].key_bytes)
        if error is not None:
            errors[position], boxes[position] = error, None
    left = [row for row, position in enumerate(batch.positions) if errors[position] is None]
    positions = [batch.positions[row] for row in left]
    features = None
    if left and whole.features is not None:
        crops = batch.features.take(np.array(left))
        images = whole.features.take(np.array([rows[batch.items[position].key_bytes] for position in positions]))
        given = torch.tensor([boxes[position] for position in positions], dtype=torch.float32)[:, None]
        fits = pairwise_iou(given, torch.from_numpy(images.boxes_xyxy))[:, 0].numpy() >= overlap
        features = ImageFeatures(
            image=crops.image,
            regions=np.concatenate([crops.regions, images.regions], axis=1),
            boxes_xyxy=np.concatenate([crops.boxes_xyxy, images.boxes_xyxy], axis=1),
            region_weight=np.concatenate([crops.region_weight, images.region_weight * fits], axis=1),
            region_area=np.concatenate([crops.region_area, images.region_area], axis=1),
        )
    return replace(
        batch,
        errors=errors,
        boxes=boxes,
        positions=positions,
        features=features,
        hashes=[batch.hashes[row] for row in left],
        sizes_hw=[batch.sizes_hw[row] for row in left],
        decode_s=batch.decode_s + whole.decode_s,
        encode_s=batch.encode_s + whole.encode_s,
    )
