"""From image files to features in fixed batches: decoding runs beside the forward pass, a bad image holds its slot.

Every image of a batch shares its forward pass with the same others whatever failed and wherever an earlier run stopped,
so resumed runs give the same bytes. Memory holds at most `LOOKAHEAD + 1` batches of pixels, however many images there
are.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from recognizer.encoder import Encoder, Frame, ImageFeatures
from recognizer.images import ImageError, ImageItem, ImageLimits, decode_image

if TYPE_CHECKING:
    from torch import Tensor

# Batches whose decoding has been asked for beyond the one in the forward pass.
LOOKAHEAD = 2


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels of one image ready for the encoder, or why there are none."""

    pixels: Tensor | None
    frame: Frame | None
    sha256: str
    error: ImageError | None
    seconds: float


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """One batch of the grid.

    Attributes:
        items: its images, in order.
        errors: per image why it could not be decoded, or None.
        positions: which of the items have features, ascending.
        features: of those; None where there are none.
        hashes: sha256 of the files of those.
        decode_s: seconds of decoding, summed over the threads.
        encode_s: seconds of the forward pass.
    """

    items: Sequence[ImageItem]
    errors: Sequence[ImageError | None]
    positions: Sequence[int]
    features: ImageFeatures | None
    hashes: Sequence[str]
    decode_s: float
    encode_s: float


def in_batches(items: Sequence[ImageItem], batch_size: int) -> Iterator[Sequence[ImageItem]]:
    """Slice items into the fixed grid of batches; a lazy sequence stays lazy."""
    return (items[start : start + batch_size] for start in range(0, len(items), batch_size))


def encode_files(
    encoder: Encoder,
    batches: Iterable[Sequence[ImageItem]],
    *,
    workers: int = 0,
    limits: ImageLimits | None = None,
) -> Iterator[EncodedBatch]:
    """Decode and encode image files, in order, batch by batch.

    Args:
        encoder: what encodes.
        batches: the images that share each forward pass; read as far ahead as the pipeline is deep.
        workers: decoding threads; 0: one per core.
        limits: of pixels, bytes and aspect ratio.
    """
    limits = limits or ImageLimits()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="decode")
    waiting: deque[tuple[Sequence[ImageItem], list[Future[Decoded]]]] = deque()
    coming = iter(batches)

    def ask() -> None:
        batch = next(coming, None)
        if batch is not None:
            waiting.append((batch, [pool.submit(_decode, encoder, item, limits) for item in batch]))

    try:
        for _ in range(LOOKAHEAD):
            ask()
        while waiting:
            ask()
            batch, futures = waiting.popleft()
            yield _encode(encoder, batch, [future.result() for future in futures])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(encoder: Encoder, item: ImageItem, limits: ImageLimits) -> Decoded:
    started = time.perf_counter()
    try:
        decoded = decode_image(item.path, limits=limits, target_size_hw=encoder.input_size_hw)
    except ImageError as error:
        return Decoded(None, None, "", error, time.perf_counter() - started)
    pixels, frame = encoder.preprocess(decoded.image, decoded.displayed_size_hw)
    return Decoded(pixels, frame, decoded.sha256, None, time.perf_counter() - started)


def _encode(encoder: Encoder, items: Sequence[ImageItem], decoded: Sequence[Decoded]) -> EncodedBatch:
    started = time.perf_counter()
    positions = [position for position, one in enumerate(decoded) if one.pixels is not None]
    features = None
    if positions:
        stand_in = decoded[positions[0]]
        slots = [one if one.pixels is not None else stand_in for one in decoded]
        pixels = torch.stack([slot.pixels for slot in slots if slot.pixels is not None])
        frames = [slot.frame for slot in slots if slot.frame is not None]
        features = encoder.encode_pixels(pixels, frames).take(np.array(positions))
    return EncodedBatch(
        items=items,
        errors=[one.error for one in decoded],
        positions=positions,
        features=features,
        hashes=[decoded[position].sha256 for position in positions],
        decode_s=sum(one.seconds for one in decoded),
        encode_s=time.perf_counter() - started,
    )
