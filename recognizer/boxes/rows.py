"""Rows of boxes: what is recognised in each, and a row for each image without a box."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from recognizer.boxes.encode import EncodedBoxes, encode_boxes
from recognizer.boxes.given import Box
from recognizer.boxes.plan import BoxItem
from recognizer.pipeline import NumberedItems
from recognizer.recognizer import Recognizer
from recognizer.results.row import ErrorRow, ResultRow, Row, RowBox, unlabelled_row


def recognized_boxes(
    recognizer: Recognizer, batches: Iterator[NumberedItems]
) -> Iterator[tuple[EncodedBoxes, list[Row], float]]:
    """Recognise boxes, batch by batch.

    Args:
        recognizer: encoder, memory and settings.
        batches: number and boxes of each batch; the items are those of a `BoxPlan`.

    Yields:
        Each batch, one row per item of it, in order, and the seconds of scoring.
    """
    boxes = cast("Iterator[tuple[int, Sequence[BoxItem]]]", batches)
    for batch in encode_boxes(recognizer.encoder, boxes, settings=recognizer.settings, features=recognizer.features):
        started = time.perf_counter()
        rows = _rows(recognizer, batch)
        yield batch, rows, time.perf_counter() - started


def _rows(recognizer: Recognizer, batch: EncodedBoxes) -> list[Row]:
    items = cast("Sequence[BoxItem]", batch.items)  # as `encode_boxes` was given them
    found: dict[int, ResultRow] = {}
    if batch.features is not None:
        own = [items[position] for position in batch.positions]
        found = dict(zip(batch.positions, recognizer.rows(batch.features, own, sizes_hw=batch.sizes_hw), strict=True))
    rows: list[Row] = []
    for position, (item, error) in enumerate(zip(items, batch.errors, strict=True)):
        box = row_box(item, batch.boxes[position])
        if error is not None:
            rows.append(
                ErrorRow(path=item.key, path_b64=item.key_base64, box=box, code=error.code, reason=error.reason)
            )
        elif position in found:
            rows.append(replace(found[position], box=box))
        else:
            rows.append(empty_row(item))
    return rows


def row_box(item: BoxItem, xyxy: Box | None) -> RowBox | None:
    """Return what the row of an item says of its box; None for an image without a box."""
    if item.box is None:
        return None
    return RowBox(id=item.box.id, xyxy=xyxy, category=item.box.category, confidence=item.box.confidence)


def empty_row(item: BoxItem) -> ResultRow:
    """Return the row of an image without a box."""
    return replace(unlabelled_row(item.key, item.key_base64), status="empty")
