"""Rows in a notebook: a row shows its picture with the boxes of its evidence, and a list of rows is a gallery.

The HTML needs neither scripts nor files beside the notebook. Names, texts and paths enter it as text alone.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast, overload

if TYPE_CHECKING:
    from jinja2 import Template

    from recognizer.results.row import ResultRow, Row

_Boxes = Sequence[Sequence[float] | None]

MOST_SHOWN = 24
"""Rows of a gallery: a screen of them, and about 300 KB in the file of the notebook."""
_GALLERY_SIDE = 200  # longer side of a picture in pixels
_MOST_CANDIDATES = 5


class Shown:
    """Base of the rows: a notebook shows them with their picture."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return row_html(cast("Row", self))


class RowList(list["Row"]):
    """Rows that a notebook shows as a gallery; else a list like others.

    FiftyOne needs no export, for it takes them as they are::

        import fiftyone as fo
        from recognizer import RowList

        samples = {}
        for row in RowList.read("results.jsonl"):
            if row.label is None or row.image is None:
                continue
            sample = samples.setdefault(row.image, fo.Sample(filepath=row.image, boxes=fo.Detections()))
            if row.box is None:
                sample["label"] = fo.Classification(label=row.label, confidence=row.confidence)
                found = [(piece.description, piece.box_xyxy) for piece in row.candidates[0].evidence if piece.box_xyxy]
            else:
                found = [(row.label, row.box.xyxy)]
            for label, (x0, y0, x1, y1) in found:
                shares = [x0 / row.width, y0 / row.height, (x1 - x0) / row.width, (y1 - y0) / row.height]
                sample.boxes.detections.append(fo.Detection(label=label, bounding_box=shares))
        dataset = fo.Dataset("recognizer")
        dataset.add_samples(list(samples.values()))
    """

    @classmethod
    def read(cls, results: str | Path, images: str | Path | None = None) -> RowList:
        """Read the rows of a run.

        Args:
            results: the file or folder that `run` or `rerank` wrote.
            images: the folder of the images, for the pictures; None: the one that the run names. No file outside of it
                is opened.

        Raises:
            ResultsUnreadable: there are no rows that can be read.
            ReportRefused: there is no such folder of images.
        """
        from recognizer.images.key import key_from_display
        from recognizer.images.rooted import path_under
        from recognizer.report.folder import image_root
        from recognizer.results.reading import open_stored

        stored = open_stored(Path(results))
        root = image_root(stored, None if images is None else Path(images))
        if root is None:
            return cls(stored.rows())
        placed = ((row, path_under(root, key_from_display(row.path))) for row in stored.rows())
        return cls(replace(row, image=None if path is None else os.fsdecode(path)) for row, path in placed)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> RowList: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Row | RowList:
        """Return a row, or the list of a slice."""
        return RowList(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def _repr_html_(self) -> str:
        return gallery_html(self)


def row_html(row: Row) -> str:
    """Return a row as HTML: its picture with the boxes of the evidence, its candidates, and the texts of the boxes.

    A row without a picture, or whose picture cannot be read now, is shown without it.
    """
    from recognizer.report.thumbs import PICTURE_SIDE

    return _template().render(rows=[_shown(row, PICTURE_SIDE)], gallery=False, more="")


def gallery_html(rows: Sequence[Row]) -> str:
    """Return the first `MOST_SHOWN` rows as small cards, and how many others there are."""
    from memory.wording import counted

    rest = len(rows) - MOST_SHOWN
    cards = [_shown(row, _GALLERY_SIDE) for row in rows[:MOST_SHOWN]]
    more = f"and {counted(rest, 'more row')}" if rest > 0 else "" if rows else "no rows"
    return _template().render(rows=cards, gallery=True, side=_GALLERY_SIDE, more=more)


@cache
def _template() -> Template:
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    page = (files("recognizer") / "notebook.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(page)


def _shown(row: Row, side: int) -> dict[str, Any]:
    """Return what the template shows of a row."""
    from recognizer.results.row import ErrorRow

    if isinstance(row, ErrorRow):
        return _words(row, "not recognised", f"{row.code}: {row.reason}")
    try:
        return _content(row, side)
    except (TypeError, ValueError, AttributeError) as error:  # a file of results may hold anything
        return _words(row, "this row cannot be shown", str(error))


def _words(row: Row, label: str, facts: str) -> dict[str, Any]:
    return {
        "label": label,
        "facts": facts,
        "path": str(row.path),
        "picture": None,
        "candidates": (),
        "evidence": (),
    }


def _content(row: ResultRow, side: int) -> dict[str, Any]:
    boxes, lines = _boxes(row)
    facts = [_percent(row.confidence), "" if row.calibrated else "not calibrated", "unknown" if row.unknown else ""]
    return {
        "label": "no label" if row.label is None else str(row.label),
        "facts": " · ".join(filter(None, facts)),
        "path": row.key,
        "picture": _picture(row, boxes, side),
        "candidates": [
            {
                "name": str(each.category),
                "group": str(each.group),
                "confidence": _percent(each.confidence),
                "width": round(100 * each.confidence, 1),
            }
            for each in row.candidates[:_MOST_CANDIDATES]
        ],
        "evidence": [
            {"colour": colour, "lines": texts} for colour, texts in zip(_colours(boxes), lines, strict=True) if texts
        ],
    }


def _boxes(row: ResultRow) -> tuple[list[Sequence[float] | None], list[list[str]]]:
    """Return what is drawn: the boxes of the first candidate's evidence, and the row's own; each with its texts."""
    from recognizer.pictures import evidence_boxes

    boxes, lines = evidence_boxes(row.candidates[0].evidence) if row.candidates else ([], [])
    if row.box is not None and row.box.xyxy is not None:
        boxes, lines = [row.box.xyxy, *boxes], [["the box that was recognised"], *lines]
    return boxes, lines


def _colours(boxes: _Boxes) -> list[str | None]:
    from recognizer.images.draw import PALETTE_RGB

    return [
        None if box is None else "rgb({},{},{})".format(*PALETTE_RGB[place % len(PALETTE_RGB)])
        for place, box in enumerate(boxes)
    ]


def _picture(row: ResultRow, boxes: _Boxes, side: int) -> str | None:
    """Return a small picture with boxes as a JPEG in base64; None where the image is unknown or cannot be read now."""
    from recognizer.images import ImageError, draw_evidence, load_source
    from recognizer.report.thumbs import jpeg_bytes

    if row.image is None:
        return None
    try:
        decoded = load_source(row.image, target_size_hw=(side, side))
    except ImageError:
        return None
    drawn = draw_evidence(decoded.image, boxes, [()] * len(boxes), displayed_size_hw=decoded.displayed_size_hw)
    drawn.thumbnail((side, side))
    return base64.b64encode(jpeg_bytes(drawn)).decode()


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
