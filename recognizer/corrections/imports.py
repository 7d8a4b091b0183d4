"""Corrections that were made in other tools: Label Studio's JSON and tables become records as in the log of `review`.

An entry that cannot be used costs itself and is named. Reading a file again gives the same records.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory import Category
from memory.errors import LabelError, printable, printable_path
from memory.labels.cells import delimiter_by_count, delimiter_by_titles, read_titles, split_rows
from memory.labels.rows import LabelFile, read_text
from memory.labels.text import HEADER_WORDS
from memory.wording import counted
from recognizer.boxes.formats.table import COLUMNS
from recognizer.boxes.given import Box, GivenBox, to_number
from recognizer.corrections.log import (
    Correction,
    Corrections,
    CorrectionsUnusable,
    drawn_corners,
    drawn_id,
    read_corrections,
)
from recognizer.evaluation.labelled import PATH_TITLES, CategoryNames, find_column
from recognizer.images import ImageError
from recognizer.images.key import display_key
from recognizer.reranking.file import EarlierResults
from recognizer.results.row import ROLLED_UP, ResultRow

_CORNERS = ("x1", "y1", "x2", "y2")
_BOX_TITLES = ("box_id", "box")
_NEAR = 0.01
"""Of the longer side of a box, and a pixel beside it: tools round what they store. A corner that is further away was
moved by a person, who means another box."""


def read_any(
    path: Path, earlier: EarlierResults, categories: Callable[[], Sequence[Category]]
) -> tuple[Corrections, Sequence[str]]:
    """Read corrections of any format.

    Args:
        path: a log of `review` in JSON lines; an export of Label Studio in JSON; or a CSV or TSV with the columns path
            and label and, for boxes, x1, y1, x2, y2 (pixels of the displayed image) or box_id.
        earlier: the results that were corrected.
        categories: reads those of the memory. A label means the one of this name, else of this alias, else of either
            in other case or spacing, else a new one.

    Returns:
        The corrections, and a sentence for what was left out.

    Raises:
        CorrectionsUnusable: it cannot be read, or nothing in it is a correction.
    """
    is_table = path.suffix.lower() in (".csv", ".tsv")
    if not is_table and not _begins_a_list(path):
        read = read_corrections(path)
        lines = counted(read.damaged, "line")
        return read, [f"{lines}, the first of them {read.first_damage}"] if read.damaged else []
    known = categories()
    reader = _Reader(earlier, CategoryNames(known), known)
    try:
        text = read_text(path)
    except LabelError as error:
        raise CorrectionsUnusable(str(error)) from error
    records = reader.table(LabelFile(path, text)) if is_table else reader.label_studio(path, text)
    once = {record.id: record for record in records}
    if not once:
        why = f" ({reader.problems[0]})" if reader.problems else ""
        raise CorrectionsUnusable(f"{printable_path(path)} holds no corrections{why}")
    return Corrections([*once.values()]), reader.problems


def _time(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _begins_a_list(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(100).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError as error:
        raise CorrectionsUnusable(f"{printable_path(path)} cannot be read: {error.strerror}") from error


@dataclass(slots=True)
class _Reader:
    """Makes records of entries; `problems` gets a sentence for each entry that cannot be used."""

    earlier: EarlierResults
    names: CategoryNames
    categories: Sequence[Category]
    problems: list[str] = field(default_factory=list)
    _by_path: dict[str, list[ResultRow]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.earlier.results:
            self._by_path.setdefault(row.path, []).append(row)

    def table(self, file: LabelFile) -> Iterator[Correction]:
        """Yield the records of a table."""
        lines = split_rows(file, delimiter_by_titles(file, PATH_TITLES) or delimiter_by_count(file))
        header = next(lines, (1, list[str]()))[1]
        shown = printable_path(file.path)
        if isinstance(header, csv.Error):
            raise CorrectionsUnusable(f"{shown}: the first line cannot be read: {header}")
        titles = read_titles(header)
        lower = [title.lower() for title in titles]
        if "rank" in lower and "category" in lower:
            raise CorrectionsUnusable(
                f"{shown} holds results of `run`; keep the columns path and label, and the lines that somebody checked"
            )
        titles_of = {"box": _BOX_TITLES, **{name: COLUMNS[name] for name in _CORNERS}}
        found = {name: [lower.index(title) for title in known if title in lower] for name, known in titles_of.items()}
        columns = {name: places[0] for name, places in found.items() if places}
        columns["path"] = find_column(shown, titles, "path", PATH_TITLES)
        columns["label"] = find_column(shown, titles, "label", HEADER_WORDS)
        for line, cells in lines:
            try:
                if isinstance(cells, csv.Error):
                    raise ValueError(str(cells))
                if any(cell.strip() for cell in cells):
                    given = {name: cells[place].strip() for name, place in columns.items() if place < len(cells)}
                    yield self._of_line(given, file.path.parent)
            except ValueError as error:
                self.problems.append(f"line {line}: {error}")

    def label_studio(self, path: Path, text: str) -> Iterator[Correction]:
        """Yield the records of an export of Label Studio; of several annotations of a task the latest counts."""
        try:
            tasks = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorrectionsUnusable(f"{printable_path(path)} is not valid JSON: {error}") from error
        for number, task in enumerate(tasks, 1):
            try:
                annotations = [one for one in task["annotations"] if not one.get("was_cancelled")]
                rows = self._rows_of_task(task)
                regions = [(_time(one), region) for one in sorted(annotations, key=_time) for region in one["result"]]
                if annotations and not regions:
                    raise ValueError("its annotation is empty")
            except (KeyError, TypeError, AttributeError):
                self.problems.append(f"task {number} is no task with annotations; export the project as JSON")
                continue
            except ValueError as error:
                self.problems.append(f"task {number}: {error}")
                continue
            for time, region in regions:
                try:
                    yield self._of_region(region, rows, time)
                except (KeyError, TypeError, AttributeError):
                    self.problems.append(f"task {number}: a region is neither choices nor rectanglelabels")
                except ValueError as error:
                    self.problems.append(f"task {number}: {error}")

    def _of_line(self, given: Mapping[str, str], folder: Path) -> Correction:
        if not given.get("path") or not given.get("label"):
            raise ValueError("no label" if given.get("path") else "no path")
        rows = self._rows_at(given["path"], folder)
        if all(given.get(name) for name in _CORNERS):
            x0, y0, x1, y1 = (to_number(given[name]) for name in _CORNERS)
            return self._of_box(rows, (x0, y0, x1, y1), given["label"])
        if any(given.get(name) for name in _CORNERS):
            raise ValueError("a box has x1, y1, x2 and y2")
        return self._of_row(rows, given.get("box") or None, given["label"])

    def _of_region(self, region: Mapping[str, Any], rows: Sequence[ResultRow], time: str) -> Correction:
        kind, value = region["type"], region["value"]
        if kind not in ("choices", "rectanglelabels"):
            raise TypeError
        labels = value[kind]
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise ValueError(f"{printable(str(labels))} is not one label")
        if kind == "choices":
            about_boxes = all(row.box is not None for row in rows)
            return self._of_row(rows, region.get("id") if about_boxes else None, labels[0], time)
        if value.get("rotation") or region.get("image_rotation"):
            raise ValueError("the box or its image is turned; only upright boxes can be used")
        size = next(((row.height, row.width) for row in rows if row.height and row.width), (None, None))
        if size[0] is None or size[1] is None:
            raise ValueError("the results do not say how large the image is")
        frame_h = int(region.get("original_height") or size[0])
        frame_w = int(region.get("original_width") or size[1])
        x, y, width, height = (to_number(value[name]) / 100 for name in ("x", "y", "width", "height"))
        given = GivenBox(
            image=rows[0].path,
            xyxy=(x * frame_w, y * frame_h, (x + width) * frame_w, (y + height) * frame_h),
            frame_hw=(frame_h, frame_w),
        )
        try:
            return self._of_box(rows, given.displayed((size[0], size[1])), labels[0], time)
        except ImageError as error:
            raise ValueError(error.reason) from error

    def _rows_of_task(self, task: Mapping[str, Any]) -> Sequence[ResultRow]:
        data = task["data"]  # `export-results` writes both; the image may have got a prefix
        return self._rows_at(data.get("path", data.get("image")), None)

    def _rows_at(self, path: object, folder: Path | None) -> Sequence[ResultRow]:
        """Return the rows of an image, whose path is that of the row or, from a folder, leads to its file."""
        if not isinstance(path, str) or not path:
            raise ValueError("no path")
        rows = self._by_path.get(path)
        if rows is None and folder is not None and "\0" not in path:
            place = os.path.relpath(os.path.join(folder, path), self.earlier.root)
            rows = self._by_path.get(display_key(os.fsencode(place).replace(os.fsencode(os.sep), b"/")))
        if rows is None:
            raise ValueError(f"no image {printable(path)!r} was recognised in these results")
        return rows

    def _of_row(self, rows: Sequence[ResultRow], box: str | None, label: str, time: str = "") -> Correction:
        for row in rows:
            if box == (None if row.box is None else row.box.id):
                return self._record(rows, row, None, label, time)
        which = "about the whole image" if box is None else f"of a box {printable(box)!r}"
        raise ValueError(f"{printable(rows[0].path)} has no row {which}")

    def _of_box(self, rows: Sequence[ResultRow], xyxy: Sequence[float], label: str, time: str = "") -> Correction:
        corners = drawn_corners(xyxy)
        near = 1 + _NEAR * max(corners[2] - corners[0], corners[3] - corners[1])
        for row in rows:
            own = None if row.box is None else row.box.xyxy
            if own is not None and all(abs(one - other) <= near for one, other in zip(own, corners, strict=True)):
                return self._record(rows, row, None, label, time)
        return self._record(rows, None, corners, label, time)

    def _record(
        self, rows: Sequence[ResultRow], row: ResultRow | None, xyxy: Box | None, label: str, time: str
    ) -> Correction:
        path = rows[0].path
        box = drawn_id(path, xyxy) if xyxy is not None else None if row is None or row.box is None else row.box.id
        name, group = self._category(row, label)
        said = [path, box, name, group, time]
        return Correction(
            id=hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32],
            path=path,
            box=box,
            xyxy=xyxy,
            new=name,
            group=group,
            old=None if row is None else row.label,
            run=str(self.earlier.info.memory.get("digest", "")),
            time=time,
        )

    def _category(self, row: ResultRow | None, label: str) -> tuple[str, str]:
        """Return name and group of the category that a label means, a new one where the memory has none."""
        fitting = [self.categories[place] for place in self.names.rows(label)]
        if len(fitting) > 1:
            seen = {(each.category, each.group) for each in (() if row is None else row.candidates)}
            fitting = [each for each in fitting if (each.name, each.group) in seen]
            if len(fitting) != 1:
                raise ValueError(f"{printable(label)!r} fits categories of several groups")
        if fitting:
            return fitting[0].name, fitting[0].group
        if row is not None and row.source == ROLLED_UP and row.label == label:
            raise ValueError(f"{printable(label)!r} is a group, not a category, so nothing can be learnt from it")
        return label, ""
