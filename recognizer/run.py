"""Recognise a folder of images in one batch run that can be resumed at any moment."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from memory import Memory
from recognizer.encoder.device import choose_device, choose_precision
from recognizer.features import encode_or_read
from recognizer.images import ImageItem, Listing
from recognizer.pipeline import EncodedBatch, NumberedItems
from recognizer.recognizer import Recognizer
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch, rerank_in_background
from recognizer.results import BatchTiming, ImageStamp, Row, RowSink, RunSetup, stamp_file, todo_batches
from recognizer.selection import Selection
from recognizer.settings import Settings

if TYPE_CHECKING:
    from recognizer.prior import Prior
    from recognizer.retrieval import Retrieved
    from rerank.reranker import MllmReranker


def run_setup(
    memory: Memory,
    settings: Settings,
    listing: Listing,
    *,
    device: str,
    precision: str,
    selection: Selection | None = None,
    prior: Prior | None = None,
    boxes: Literal["file", "auto"] | None = None,
) -> RunSetup:
    """Describe a run, before the encoder is loaded.

    Args:
        memory: the categories.
        settings: settings of the run. The number of workers and the accepted share of failures are left out, because
            they do not change a row. So are the limits of time and memory, so that an image that exceeded them can be
            repeated with higher ones.
        listing: the images.
        device: as requested, which may be `auto`.
        precision: as requested, which may be `auto`.
        selection: the categories that compete; None: all.
        prior: of the categories; None: all are equally common.
        boxes: where the boxes come from that are recognised; None: whole images are.
    """
    resolved = choose_device(device)
    info = memory.info()
    index = memory.index_kind if settings.run.index == "auto" else settings.run.index
    return RunSetup(
        command=sys.argv,
        model={"name": memory.encoder.name, "fingerprint": memory.encoder.fingerprint},
        memory={
            "path": str(place.absolute() if isinstance(place := memory.location, Path) else place),
            "version": memory.version,
            "categories": info.categories,
            "digest": memory.digest,
            "index": index if selection is None and prior is None else "exact",
        },
        settings=settings.model_dump(
            mode="json",
            exclude={
                "run": {"workers", "batch_size", "max_failed", "features"},
                "images": {"max_seconds", "max_memory_bytes"},
                "rerank": True,
                "boxes": True,
                "unknown": True,
                "serve": True,
            },
        )
        | ({} if boxes is None else {"boxes": {"from": boxes, **settings.boxes.model_dump(mode="json")}})
        | {"rerank": settings.rerank.decisive()}
        | ({"unknown": unknown} if (unknown := settings.unknown.decisive()) else {})
        | {"precision": choose_precision(precision, resolved), "device": resolved.type}
        | {"input_root": os.fsdecode(listing.root)}
        | ({} if selection is None else {"categories": f"{len(selection.rows)} chosen, sha256 {selection.sha256}"})
        | ({} if prior is None else {"prior": f"sha256 {prior.sha256}"}),
        device=str(resolved),
        input_root=os.fsdecode(listing.root),
    )


Recognized = Iterator[tuple[EncodedBatch, list[Row], float]]
"""Batches with the row of each of their items, and the seconds of scoring."""


Recognize = Callable[[Recognizer, Iterator[NumberedItems]], Recognized]
"""Makes them of the numbers and the items of batches."""


def recognized_images(recognizer: Recognizer, batches: Iterator[NumberedItems]) -> Recognized:
    """Recognise whole images, batch by batch; candidates of the next batch are looked for while the caller uses one."""
    settings = recognizer.settings
    encoded = cast(
        "Generator[EncodedBatch, None, None]",
        encode_or_read(
            recognizer.encoder,
            batches,
            features=recognizer.features,
            workers=settings.run.workers,
            limits=settings.images,
        ),
    )

    def retrieve_next() -> tuple[EncodedBatch, list[Retrieved], float] | None:
        batch = next(encoded, None)
        if batch is None:
            return None
        started = time.perf_counter()
        retrieved = recognizer.retrieve(batch)
        return batch, retrieved, time.perf_counter() - started

    with contextlib.closing(encoded), ThreadPoolExecutor(1, "score") as thread:
        ahead = thread.submit(retrieve_next)
        while (scored := ahead.result()) is not None:
            ahead = thread.submit(retrieve_next)  # NumPy's products leave the interpreter free for the rows
            batch, retrieved, score_s = scored
            started = time.perf_counter()
            rows = recognizer.batch_rows(batch, retrieved)
            yield batch, rows, score_s + time.perf_counter() - started


def recognize_into(
    recognizer: Recognizer,
    items: Sequence[ImageItem],
    sink: RowSink,
    *,
    reranker: MllmReranker | None = None,
    recognize: Recognize = recognized_images,
) -> Generator[list[Row], None, None]:
    """Recognise the pending images of a sink, write their rows, and yield them, batch by batch.

    Args:
        recognizer: encoder, memory and settings.
        items: all images of the run, or all boxes.
        sink: an open output; the caller finishes it.
        reranker: reranks the candidates while later batches are encoded; None: the order of retrieval stays.
        recognize: makes rows of the items of batches.
    """
    settings = recognizer.settings
    pending = todo_batches(sink, settings.run.batch_size)
    with contextlib.ExitStack() as stack:
        # Closed here also after an error. One that the garbage collector closes waits for its threads at a moment when
        # they may wait for a lock that this thread holds.
        batches = stack.enter_context(
            contextlib.closing(row_batches(items, pending, lambda batches: recognize(recognizer, batches)))
        )
        if reranker is not None:
            batches = stack.enter_context(
                contextlib.closing(
                    rerank_in_background(
                        batches, reranker, settings.rerank, score=settings.score, limits=settings.images
                    )
                )
            )
        for batch in batches:
            sink.write(batch.rows, timing=batch.timing, images=batch.stamps)
            yield batch.rows


def row_batches(
    items: Sequence[ImageItem],
    numbers: Iterable[Sequence[int]],
    recognize: Callable[[Iterator[NumberedItems]], Recognized],
) -> Generator[RowBatch, None, None]:
    """Make rows of items, with the stamps of their files.

    Args:
        items: all of the run.
        numbers: of those of each batch.
        recognize: makes rows of the items of batches.
    """
    seen: dict[int, list[ImageStamp]] = {}

    def pending() -> Iterator[NumberedItems]:
        for number, images in enumerate(numbers):
            batch = [items[image] for image in images]
            # Before they are read: a file that is replaced in the meantime then counts as changed.
            seen[number] = [stamp_file(item.path) for item in batch]
            yield number, batch

    for batch, rows, score_s in recognize(pending()):
        timing = BatchTiming(decode_s=batch.decode_s, encode_s=batch.encode_s, score_s=score_s)
        hashes = dict(zip(batch.positions, batch.hashes, strict=True))
        images = [
            RankedImage(item, hashes[position]) if position in hashes else None
            for position, item in enumerate(batch.items)
        ]
        stamps = [replace(stamp, sha256=hashes.get(position)) for position, stamp in enumerate(seen.pop(batch.number))]
        yield RowBatch(rows, images, timing, stamps)
