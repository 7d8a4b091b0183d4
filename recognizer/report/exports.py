"""Results in the formats of other tools that show images: COCO, MegaDetector, Label Studio, CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from memory.durable import replacing
from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.boxes.outputs import (
    category_ids,
    coco_results,
    image_ids,
    megadetector_document,
    named_categories,
    write_coco,
    write_megadetector,
)
from recognizer.boxes.plan import BoxItem
from recognizer.images.key import key_from_display
from recognizer.results.errors import OutputUnusable
from recognizer.results.reading import StoredResults
from recognizer.results.row import ErrorRow, ResultRow, Row, RowBox
from recognizer.results.tables import CsvLines, about_boxes

WHOLE_IMAGE: Final = "image"
"""Id of the box or answer that stands for the whole image."""


def export_results(stored: StoredResults, output: Path, format: str, *, prefix: str = "") -> int:
    """Write results in another format.

    Args:
        stored: the results.
        output: the file, replaced when it is complete.
        format: one of `FORMATS`.
        prefix: put before the path of each image in Label Studio's tasks, which needs an address for each.

    Returns:
        The number of rows.

    Raises:
        OutputUnusable: the output is, or lies in, what holds the results.
        ResultsUnreadable: there are no rows that can be read.
        WriteFailed: the disk refuses.
    """
    if stored.would_be_damaged_by(output):
        raise OutputUnusable(f"{output} holds the results themselves; choose another --output")
    return FORMATS[format](stored, output, prefix)


def _write_csv(stored: StoredResults, output: Path, prefix: str) -> int:
    del prefix
    boxes = any(about_boxes(row.to_dict()) for row in stored.rows())
    count = 0
    with replacing(output) as draft, open(draft, "w", encoding="utf-8", errors="replace", newline="") as stream:
        lines = CsvLines(stream, boxes=boxes)
        for row in stored.rows():
            lines.write([row.to_dict()])
            count += 1
    return count


def _write_coco(stored: StoredResults, output: Path, prefix: str) -> int:
    del prefix
    categories = [] if stored.info is None else [(key, name, group) for key, name, group in stored.info.category_ids]
    images = [] if stored.info is None else [(key, image) for key, image in stored.info.image_ids]
    ids = category_ids(categories, named_categories(stored.rows()))
    items = [_item(row) for row in stored.rows()]
    numbers = image_ids(images, (row.path for row in stored.rows()))
    write_coco(output, coco_results(items, map(_boxed, stored.rows()), ids, numbers))
    return len(items)


def _write_megadetector(stored: StoredResults, output: Path, prefix: str) -> int:
    del prefix
    rows = [_boxed(row) for row in stored.rows()]
    items = [_item(row) for row in rows]
    write_megadetector(output, megadetector_document(items, rows, _file(stored), model=_model(stored)))
    return len(rows)


def _file(stored: StoredResults) -> BoxFile:
    return BoxFile(path=stored.path, format="results", boxes=[])


def _boxed(row: Row) -> Row:
    """Return a row of a whole image as the row of a box around it."""
    if isinstance(row, ErrorRow) or row.box is not None or row.status == "empty" or not (row.width and row.height):
        return row
    return replace(row, box=RowBox(id=WHOLE_IMAGE, xyxy=(0.0, 0.0, float(row.width), float(row.height))))


def _item(row: Row) -> BoxItem:
    box = _boxed(row).box
    given = None
    if box is not None and box.xyxy is not None:
        x0, y0, x1, y1 = box.xyxy
        given = GivenBox(image=row.path, xyxy=(x0, y0, x1, y1), confidence=box.confidence)
    return BoxItem(key_from_display(row.path), b"", box=given)


def _model(stored: StoredResults) -> str:
    return "" if stored.info is None else str(stored.info.model.get("name", ""))


def _write_label_studio(stored: StoredResults, output: Path, prefix: str) -> int:
    """Write tasks with predictions, one for each image; failed images are tasks without one.

    The labelling interface has an `Image` called `image`, and `Choices` or `RectangleLabels` called `label`. By the
    path, annotations find their row again (`recognizer.corrections.imports`).
    """
    model = _model(stored)
    tasks: dict[str, list[ResultRow]] = {}
    count = 0
    for row in stored.rows():
        shown = tasks.setdefault(row.path, [])
        count += 1
        if isinstance(row, ResultRow) and row.label is not None:
            shown.append(replace(row, candidates=()))
    with replacing(output) as draft, open(draft, "w", encoding="utf-8", errors="replace") as stream:
        separator = "[\n"
        for path, rows in tasks.items():
            task = {
                "data": {"image": prefix + quote(path) if prefix else path, "path": path},
                "predictions": list(_predictions(rows, model)),
            }
            stream.write(separator + json.dumps(task, ensure_ascii=False))
            separator = ",\n"
        stream.write("\n]\n" if tasks else "[]\n")
    return count


def _predictions(rows: list[ResultRow], model: str) -> Iterator[dict[str, Any]]:
    results = [_region(row) for row in rows]
    if results:
        # The least sure region decides, for people sort by this number to find what needs them.
        yield {
            "model_version": model,
            "score": min(row.confidence or 0.0 for row in rows),
            "result": results,
        }


def _region(row: ResultRow) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "id": WHOLE_IMAGE if row.box is None else row.box.id,
        "from_name": "label",
        "to_name": "image",
        "score": row.confidence,
    }
    if row.box is None or row.box.xyxy is None or not (row.width and row.height):
        return {**shared, "type": "choices", "value": {"choices": [row.label]}}
    x0, y0, x1, y1 = row.box.xyxy
    percent_x, percent_y = 100 / row.width, 100 / row.height
    return {
        **shared,
        "type": "rectanglelabels",
        "original_width": row.width,
        "original_height": row.height,
        "image_rotation": 0,
        "value": {
            "x": round(x0 * percent_x, 4),
            "y": round(y0 * percent_y, 4),
            "width": round((x1 - x0) * percent_x, 4),
            "height": round((y1 - y0) * percent_y, 4),
            "rotation": 0,
            "rectanglelabels": [row.label],
        },
    }


FORMATS: Final[Mapping[str, Callable[[StoredResults, Path, str], int]]] = {
    "coco": _write_coco,
    "megadetector": _write_megadetector,
    "labelstudio": _write_label_studio,
    "csv": _write_csv,
}
"""Writers by the name of their format."""
