"""The columns of a report: of each row what its filters, its order and its place in the list need.

They are small enough to be loaded for 100,000 rows at once; details are written apart, and loaded when an image is
looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recognizer.report.row_data import Status, group_of, margin_of, status_of
from recognizer.results.row import ROLLED_UP, ErrorRow, ResultRow, Row

ROWS_PER_SCRIPT = 2_000
"""Rows whose columns are in one script: about 150 KB, a few milliseconds to load."""
NO_LABEL = -1
_DIGITS = 4  # of confidence and margin: what sliders and bars can show


class Names:
    """Numbers of names, each with its group, in the order in which they came."""

    def __init__(self) -> None:
        """Begin without names."""
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, name: str | None, group: str = "") -> int:
        """Return the number of a name, a new one for a new name; `NO_LABEL` for None.

        Raises:
            TypeError: the name or the group is no text.
        """
        if name is None:
            return NO_LABEL
        if not isinstance(name, str) or not isinstance(group, str):
            raise TypeError(f"a name of the type {type(name).__name__}")
        return self._numbers.setdefault((name, group), len(self._numbers))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Return the names and their groups, by number."""
        return iter(self._numbers)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._numbers)


@dataclass(slots=True)
class Columns:
    """The rows of a report, column by column.

    Attributes:
        names: of labels, of true labels and of those of the other run.
        codes: of errors, numbered likewise.
        path: of the image.
        path_b64: bytes of the path in base64 where it is escaped, by the number of the row.
        box: id and edges of the box that the row is about; None: the whole image.
        label: number of the name; `NO_LABEL` without a label.
        confidence: of the label; None without one.
        margin: best confidence less the second best; None without candidates.
        status: bits of `Status`.
        code: number of the error; None for an image that was recognised.
        size_wh: of the displayed image in pixels; None where the row does not say it.
        climbed: path of a label that was rolled up, by the number of the row.
        truth: number of the true name, `NO_LABEL` where it is unknown; empty without a truth.
        other: number of the other run's label, `NO_LABEL` likewise; empty without another run.
        said: number of the name that a person said, `NO_LABEL` where it was none; empty without corrections.
        picture: file name and frame of the picture; None for a row without one.
    """

    names: Names = field(default_factory=Names)
    codes: Names = field(default_factory=Names)
    path: list[str] = field(default_factory=list)
    path_b64: dict[int, str] = field(default_factory=dict)
    box: list[tuple[str, Sequence[float] | None] | None] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    confidence: list[float | None] = field(default_factory=list)
    margin: list[float | None] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    code: list[int | None] = field(default_factory=list)
    size_wh: list[tuple[int, int] | None] = field(default_factory=list)
    climbed: dict[int, str] = field(default_factory=dict)
    truth: list[int] = field(default_factory=list)
    other: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    picture: list[list[Any] | None] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.path)

    def add(self, row: Row) -> int:
        """Add a row and return its number.

        Raises:
            TypeError: a field of the row has another type than `run` writes; nothing is added.
            ValueError: likewise, a number.
        """
        number = len(self)
        if not isinstance(row.path, str):
            raise TypeError(f"a path of the type {type(row.path).__name__}")
        label = self.names.number(row.label, group_of(row))
        confidence, margin = _short(row.confidence), _short(margin_of(row))
        status = status_of(row)
        code = self.codes.number(row.code) if isinstance(row, ErrorRow) else None
        box = None if row.box is None else (str(row.box.id), _edges(row.box.xyxy))
        size = None
        if isinstance(row, ResultRow) and row.width and row.height:
            size = (int(row.width), int(row.height))
        self.path.append(row.path)
        if row.path_b64:
            self.path_b64[number] = row.path_b64
        if isinstance(row, ResultRow) and row.source == ROLLED_UP and row.label_path:
            self.climbed[number] = row.label_path
        self.box.append(box)
        self.label.append(label)
        self.confidence.append(confidence)
        self.margin.append(margin)
        self.status.append(int(status))
        self.code.append(code)
        self.size_wh.append(size)
        return number

    def mark(self, number: int, status: Status) -> None:
        """Add bits to the status of a row."""
        self.status[number] |= int(status)

    def chunks(self) -> Iterator[dict[str, list[Any]]]:
        """Yield the columns that the page loads, `ROWS_PER_SCRIPT` rows at a time."""
        columns: dict[str, list[Any]] = {
            "path": self.path,
            "box": [None if box is None else [box[0], box[1]] for box in self.box],
            "label": self.label,
            "confidence": self.confidence,
            "margin": self.margin,
            "status": self.status,
            "code": self.code,
            "truth": self.truth,
            "other": self.other,
            "said": self.said,
            "picture": self.picture,
        }
        for start in range(0, len(self), ROWS_PER_SCRIPT):
            rows = {name: column[start : start + ROWS_PER_SCRIPT] for name, column in columns.items()}
            # A column of nothing but nulls, such as that of boxes in a run over images, is left out.
            yield {name: column for name, column in rows.items() if any(value is not None for value in column)}


def _short(value: float | None) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(f"a confidence of {value}")
    return round(float(value), _DIGITS)


def _edges(box: Sequence[float] | None) -> list[float] | None:
    if box is None:
        return None
    x0, y0, x1, y1 = (round(float(edge), 2) for edge in box)
    return [x0, y0, x1, y1]
