"""From image files to features, batch by batch: while the caller uses one, the next is encoded and others are decoded.

At most `LOOKAHEAD + 1` batches are in memory at a time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from recognizer.encoder import Encoder, Frame, ImageFeatures
from recognizer.encoder.passes import single_threads
from recognizer.encoder.preprocessing import stacked
from recognizer.images import ImageError, ImageItem, ImageLimits, ImageSource, load_source
from recognizer.images.worker import Task
from recognizer.images.workers import WorkerPool

if TYPE_CHECKING:
    from torch import Tensor

# Batches that are decoded or encoded while the caller uses one: two keep the threads busy across a slow image.
LOOKAHEAD = 2
# Batches that are encoded at a time: while the vectors of one are put together, the passes of the next are under way.
ENCODED_AT_ONCE = 2
# So few images are decoded before a second process, about 0.3 s old, could help.
FEW = 8

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Encoded = TypeVar("Encoded")

NumberedItems = tuple[int, Sequence[ImageItem]]
"""The number of a batch, and its images."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image, ready for the encoder.

    Attributes:
        pixels: what `Encoder.preprocess` returns for it.
        frame: where those pixels lie in the displayed image.
        sha256: hex digest of the file; empty where there is none.
    """

    pixels: Tensor
    frame: Frame
    sha256: str


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """One batch.

    Attributes:
        number: its place in the stream, from 0.
        items: its images, in order.
        errors: per image why it could not be decoded, or None.
        positions: which of the items have features, ascending.
        features: of those, the vectors rounded to float16; None where there are none.
        hashes: sha256 of the files of those.
        sizes_hw: height and width in pixels of those, as displayed.
        decode_s: seconds of decoding, summed over the threads.
        encode_s: seconds from the pixels to the vectors, with those of waiting: two batches share the processors.
    """

    number: int
    items: Sequence[ImageItem]
    errors: Sequence[ImageError | None]
    positions: Sequence[int]
    features: ImageFeatures | None
    hashes: Sequence[str]
    sizes_hw: Sequence[tuple[int, int]]
    decode_s: float
    encode_s: float


def in_batches(items: Sequence[ImageItem], batch_size: int) -> Iterator[NumberedItems]:
    """Slice items into batches, numbered from 0; a lazy sequence stays lazy."""
    return enumerate(items[start : start + batch_size] for start in range(0, len(items), batch_size))


def encode_files(
    encoder: Encoder,
    batches: Iterable[NumberedItems],
    *,
    workers: int = 0,
    limits: ImageLimits | None = None,
) -> Iterator[EncodedBatch]:
    """Decode and encode image files, in order, batch by batch.

    Args:
        encoder: encodes the decoded images.
        batches: number and images of each batch. Up to `LOOKAHEAD` batches are taken before the first is needed.
        workers: decoding processes; 0: one per core. Fewer than `FEW` images take one.
        limits: of each image, its file and its decoding.

    Yields:
        The encoded batches, in the order of `batches`.
    """
    task = Task(limits or ImageLimits(), encoder.input_size_hw, encoder.fit)
    return encode_ahead(
        batches,
        lambda decoder, item: decode(decoder, encoder, item, task),
        lambda number, items, outcomes, decode_s: encode_batch(encoder, number, items, outcomes, decode_s),
        workers,
    )


def encode_ahead(
    batches: Iterable[tuple[int, Sequence[Item]]],
    decode_one: Callable[[WorkerPool, Item], Outcome],
    encode: Callable[[int, Sequence[Item], list[Outcome], float], Encoded],
    workers: int = 0,
) -> Iterator[Encoded]:
    """Decode and encode batches in the background, in order.

    Args:
        batches: number and items of each batch. Up to `LOOKAHEAD` batches are taken before the first is needed.
        decode_one: decodes an item; called from several threads.
        encode: encodes a batch: its number, its items, what decoding each of them gave, and the seconds that it took,
            summed over the threads.
        workers: decoding processes; 0: one per core. Fewer than `FEW` items take one.

    Yields:
        What encoding each batch gave.
    """
    waiting: deque[Future[Encoded]] = deque()
    remaining = iter(batches)
    first = list(itertools.islice(remaining, LOOKAHEAD))
    few = len(first) < LOOKAHEAD and sum(len(items) for _, items in first) < FEW
    remaining = itertools.chain(first, remaining)
    workers = 1 if few else workers or os.cpu_count() or 1
    decoder = WorkerPool(workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    encoding = single_threads(ENCODED_AT_ONCE, "batch")

    def timed(item: Item) -> tuple[Outcome, float]:
        started = time.perf_counter()
        return decode_one(decoder, item), time.perf_counter() - started

    def submit_next() -> None:
        for number, items in itertools.islice(remaining, 1):
            decoding = [pool.submit(timed, item) for item in items]
            waiting.append(encoding.submit(encode_decoded, number, items, decoding))

    def encode_decoded(
        number: int, items: Sequence[Item], decoding: Sequence[Future[tuple[Outcome, float]]]
    ) -> Encoded:
        outcomes = [one.result() for one in decoding]
        return encode(number, items, [outcome for outcome, _ in outcomes], sum(seconds for _, seconds in outcomes))

    try:
        for _ in range(LOOKAHEAD):
            submit_next()
        while waiting:
            submit_next()
            yield waiting.popleft().result()
    finally:
        decoder.close()
        pool.shutdown(wait=True, cancel_futures=True)
        encoding.shutdown(wait=True, cancel_futures=True)


def decode(decoder: WorkerPool, encoder: Encoder, item: ImageItem, task: Task) -> Decoded | ImageError:
    """Read one image file and prepare it for the encoder; a file that cannot be used comes back as its error."""
    try:
        image, sha256 = decoder.decode_fitted(item.path, task)
    except ImageError as error:
        return error
    return Decoded(*encoder.preprocess_fitted(image), sha256)


def load(encoder: Encoder, source: ImageSource, limits: ImageLimits) -> Decoded | ImageError:
    """Prepare an image for the encoder as `decode` does, in this process; one that cannot be used is its error."""
    try:
        image = load_source(source, limits=limits, target_size_hw=encoder.input_size_hw)
    except ImageError as error:
        return error
    return Decoded(*encoder.preprocess(image.image, image.displayed_size_hw), image.sha256)


def encode_batch(
    encoder: Encoder,
    number: int,
    items: Sequence[ImageItem],
    outcomes: Sequence[Decoded | ImageError],
    decode_s: float = 0.0,
) -> EncodedBatch:
    """Encode one batch, and round its vectors to float16.

    Args:
        encoder: encodes the images.
        number: of the batch.
        items: (B,) its images.
        outcomes: (B,) what decoding them gave.
        decode_s: seconds that it took.
    """
    started = time.perf_counter()
    decoded = {position: one for position, one in enumerate(outcomes) if isinstance(one, Decoded)}
    positions = list(decoded)
    features = None
    if decoded:
        pixels = stacked([one.pixels for one in decoded.values()])
        # Rounded also where nothing is stored, so that results do not depend on that.
        features = encoder.encode_pixels(pixels, [one.frame for one in decoded.values()]).rounded()
    return EncodedBatch(
        number=number,
        items=items,
        errors=[one if isinstance(one, ImageError) else None for one in outcomes],
        positions=positions,
        features=features,
        hashes=[one.sha256 for one in decoded.values()],
        sizes_hw=[one.frame.displayed_size_hw for one in decoded.values()],
        decode_s=decode_s,
        encode_s=time.perf_counter() - started,
    )
