"""CSV or TSV: a line per box with a path and its corners in pixels, with a header or without."""

from __future__ import annotations

import csv
import math
from collections import Counter

from memory.errors import printable, printable_path
from memory.labels.cells import delimiter_by_count, split_rows
from memory.labels.rows import LabelFile
from recognizer.boxes.errors import BoxFileError
from recognizer.boxes.formats.coco import NO_BOX
from recognizer.boxes.given import BoxFile, GivenBox, to_confidence, to_number

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img"),
    "x1": ("x1", "x_min", "xmin", "left"),
    "y1": ("y1", "y_min", "ymin", "top"),
    "x2": ("x2", "x_max", "xmax", "right"),
    "y2": ("y2", "y_max", "ymax", "bottom"),
    "category": ("category", "label", "class", "name"),
    "confidence": ("confidence", "score", "conf"),
}
"""Titles of each column, in lower case, that tools and people give to it."""
_NEEDED = ("path", "x1", "y1", "x2", "y2")
_PLACES = {name: place for place, name in enumerate((*_NEEDED, "category", "confidence"))}


def read_table(file: LabelFile) -> BoxFile:
    """Read a table; without a header its columns are path, x1, y1, x2, y2 and, where there are more, category, score.

    Raises:
        BoxFileError: it has no boxes, or a header that lacks one of the five columns.
    """
    shown = printable_path(file.path)
    lines = [row for _, row in split_rows(file, delimiter_by_count(file)) if row]
    first = lines[0] if lines else []
    if isinstance(first, csv.Error) or not first:
        raise BoxFileError(f"{shown} has no line with a box; expected path,x1,y1,x2,y2")
    places = _places(first)
    if places is None:
        places = _PLACES
        if len(first) < len(_NEEDED) or math.isnan(to_number(first[1])):
            has = printable(", ".join(first), 200)
            raise BoxFileError(f"{shown} needs the columns path, x1, y1, x2 and y2 (corners in pixels); it has {has}")
    else:
        lines = lines[1:]
    boxes: list[GivenBox] = []
    left_out: Counter[str] = Counter()
    for row in lines:
        if isinstance(row, csv.Error) or len(row) <= max(places[name] for name in _NEEDED) or not row[places["path"]]:
            left_out[NO_BOX] += 1
            continue
        x0, y0, x1, y1 = (to_number(row[places[name]]) for name in _NEEDED[1:])
        optional = {
            name: row[places[name]].strip() or None if places.get(name, len(row)) < len(row) else None
            for name in ("category", "confidence")
        }
        boxes.append(
            GivenBox(
                image=row[places["path"]],
                xyxy=(x0, y0, x1, y1),
                category=optional["category"],
                confidence=to_confidence(optional["confidence"]),
            )
        )
    return BoxFile(path=file.path, format="CSV", boxes=boxes, left_out=left_out)


def _places(titles: list[str]) -> dict[str, int] | None:
    """Return the place of each column that a header names; None for a line that is no such header."""
    lower = [title.strip().lower() for title in titles]
    found = {
        name: place
        for name, known in COLUMNS.items()
        if (place := next((lower.index(title) for title in known if title in lower), None)) is not None
    }
    return found if all(name in found for name in _NEEDED) else None
