"""Recognise a folder of images in one batch run that can be resumed at any moment."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memory import Memory
from recognizer.encoder.device import choose_device, choose_precision
from recognizer.features import encode_or_read
from recognizer.images import ImageItem, Listing
from recognizer.pipeline import NumberedItems
from recognizer.recognizer import Recognizer
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch, rerank_in_background
from recognizer.results import BatchTiming, ImageStamp, Row, RowSink, RunSetup, stamp_file, todo_batches
from recognizer.selection import Selection
from recognizer.settings import Settings

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker


def run_setup(
    memory: Memory,
    settings: Settings,
    listing: Listing,
    *,
    device: str,
    precision: str,
    selection: Selection | None = None,
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
    """
    resolved = choose_device(device)
    info = memory.info()
    index = memory.index_kind if settings.run.index == "auto" else settings.run.index
    return RunSetup(
        command=sys.argv,
        model={"name": memory.encoder.name, "fingerprint": memory.encoder.fingerprint},
        memory={
            "path": str(info.directory),
            "version": memory.version,
            "categories": info.categories,
            "digest": memory.digest,
            "index": index if selection is None else "exact",
        },
        settings=settings.model_dump(
            mode="json",
            exclude={
                "run": {"workers", "batch_size", "max_failed", "features"},
                "images": {"max_seconds", "max_memory_bytes"},
                "rerank": True,
            },
        )
        | {"rerank": settings.rerank.decisive()}
        | {"precision": choose_precision(precision, resolved), "device": resolved.type}
        | {"input_root": os.fsdecode(listing.root)}
        | ({} if selection is None else {"categories": f"{len(selection.rows)} chosen, sha256 {selection.sha256}"}),
        device=str(resolved),
        input_root=os.fsdecode(listing.root),
    )


def recognize_into(
    recognizer: Recognizer, items: Sequence[ImageItem], sink: RowSink, *, reranker: MllmReranker | None = None
) -> Iterator[list[Row]]:
    """Recognise the pending images of a sink, write their rows, and yield them, batch by batch.

    Args:
        recognizer: encoder, memory and settings.
        items: all images of the run.
        sink: an open output; the caller finishes it.
        reranker: reranks the candidates while later batches are encoded; None: the order of retrieval stays.
    """
    batches = _recognize(recognizer, items, sink)
    if reranker is not None:
        settings = recognizer.settings
        batches = rerank_in_background(batches, reranker, settings.rerank, score=settings.score, limits=settings.images)
    for batch in batches:
        sink.write(batch.rows, timing=batch.timing, images=batch.stamps)
        yield batch.rows


def _recognize(recognizer: Recognizer, items: Sequence[ImageItem], sink: RowSink) -> Iterator[RowBatch]:
    settings = recognizer.settings
    seen: dict[int, list[ImageStamp]] = {}

    def pending() -> Iterator[NumberedItems]:
        for number, images in enumerate(todo_batches(sink, settings.run.batch_size)):
            batch = [items[image] for image in images]
            # Before they are read: a file that is replaced in the meantime then counts as changed.
            seen[number] = [stamp_file(item.path) for item in batch]
            yield number, batch

    for batch in encode_or_read(
        recognizer.encoder,
        pending(),
        features=recognizer.features,
        workers=settings.run.workers,
        limits=settings.images,
    ):
        started = time.perf_counter()
        rows = recognizer.batch_rows(batch)
        timing = BatchTiming(decode_s=batch.decode_s, encode_s=batch.encode_s, score_s=time.perf_counter() - started)
        hashes = dict(zip(batch.positions, batch.hashes, strict=True))
        images = [
            RankedImage(item, hashes[position]) if position in hashes else None
            for position, item in enumerate(batch.items)
        ]
        stamps = [replace(stamp, sha256=hashes.get(position)) for position, stamp in enumerate(seen.pop(batch.number))]
        yield RowBatch(rows, images, timing, stamps)
