"""The corrections of results, one line of JSON each: only appended to, so none is lost by a kill or a second window.

A line is one write to a file that is open for appending, and on the disk before it counts. A kill can leave a last line
without its end; the next line then begins on a line of its own, and the torn one is left out and counted. Each
correction has a number chosen by whoever made it, so one that is sent again is not there twice. The last correction of
a row counts; undoing is a correction, too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from memory.category import check_text
from memory.durable import make_folder, sync_folder
from memory.errors import printable, printable_path
from recognizer.boxes.given import Box, GivenBox
from recognizer.errors import RecognizerError
from recognizer.results.row import box_key

Verdict = Literal["category", "unknown", "skip", "undo"]
"""What was said of a row: its category, that it shows none, nothing, or that what was said before does not count."""
_VERDICTS = ("category", "unknown", "skip", "undo")
_MOST_BYTES = 64 * 1024  # of a line; a name has at most 10,000 characters


class CorrectionsUnusable(RecognizerError):
    """A file of corrections cannot be read or written; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a person said of one row, or of a box that the person drew.

    Attributes:
        id: chosen by whoever made it, the same when it is sent again.
        path: of the row.
        box: id of its box; None: the whole image.
        xyxy: x_min, y_min, x_max, y_max in pixels of the displayed image, of a box that the person drew and that no row
            is about; None for rows.
        verdict: what was said.
        new: name of the category; None unless that was said.
        group: of that category.
        old: label that the row had; None: none.
        run: digest of the memory that made the row.
        time: in UTC, ISO 8601.
    """

    id: str
    path: str
    box: str | None = None
    xyxy: Box | None = None
    verdict: Verdict = "category"
    new: str | None = None
    group: str = ""
    old: str | None = None
    run: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        """Check that it says something.

        Raises:
            ValueError: a category without a name, a name without a category, a text that cannot be stored, or a box
                without an area.
        """
        if self.verdict not in _VERDICTS:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(_VERDICTS)}")
        if (self.new is not None) != (self.verdict == "category"):
            raise ValueError("a correction has a new name if its verdict is category, and only then")
        for value, what in ((self.id, "id"), (self.path, "path")):
            check_text(value, what)
        if self.new is not None:
            check_text(self.new, "name")
        check_text(self.group, "group", empty_allowed=True)
        if self.xyxy is not None:
            object.__setattr__(self, "xyxy", drawn_corners(self.xyxy))
            if self.box is None:
                raise ValueError("a box that was drawn has an id")
            if self.verdict not in ("category", "undo"):
                raise ValueError(f"a box that was drawn has a name; its verdict is {self.verdict}")

    @property
    def key(self) -> str:
        """The key of its row."""
        return box_key(self.path, self.box)

    @property
    def verified(self) -> bool:
        """Whether the label of the row was found right."""
        return self.verdict == "category" and self.new == self.old

    def to_line(self) -> bytes:
        """Return its line."""
        body = asdict(self) | {"verified": self.verified}
        if self.xyxy is None:
            del body["xyxy"]
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Make one of its JSON object.

        Raises:
            ValueError, TypeError: it is no correction.
        """
        names = {field.name for field in fields(cls)}
        if "candidates" in content:
            raise ValueError("a row of results is no correction; `recognizer review` writes corrections")
        return cls(**{name: value for name, value in content.items() if name in names})


def drawn_corners(corners: Sequence[float]) -> Box:
    """Return the corners of a drawn box to a hundredth of a pixel.

    Args:
        corners: x_min, y_min, x_max, y_max in pixels of the displayed image.

    Raises:
        ValueError: they are no box in an image.
    """
    if len(corners) != 4 or not all(isinstance(edge, (int, float)) and math.isfinite(edge) for edge in corners):
        raise ValueError(f"the box {printable(str(corners))} is not x_min, y_min, x_max, y_max")
    x0, y0, x1, y1 = (round(float(edge), 2) for edge in corners)
    if min(x0, y0) < 0 or x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} has no area in the image")
    return x0, y0, x1, y1


def drawn_id(path: str, xyxy: Box) -> str:
    """Return the id of a drawn box: the same for the same corners in the same image."""
    return GivenBox(image=path, xyxy=xyxy).id


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a file holds.

    Attributes:
        all: every correction, in order, each once.
        damaged: lines that are no correction.
        first_damage: which of them is the first, and why.
    """

    all: list[Correction]
    damaged: int = 0
    first_damage: str = ""

    def latest(self) -> dict[str, Correction]:
        """Return by row what was said of it last; rows whose correction was undone have what was said before."""
        said: dict[str, list[Correction]] = {}
        for one in self.all:
            stack = said.setdefault(one.key, [])
            if one.verdict != "undo":
                stack.append(one)
            elif stack:
                stack.pop()
        return {key: stack[-1] for key, stack in said.items() if stack}


def read_corrections(path: Path) -> Corrections:
    """Read a file of corrections.

    A line needs a path, and a new name unless its verdict is another one; without an id it is known by its content.

    Raises:
        CorrectionsUnusable: it cannot be read, or all of its lines are something else.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CorrectionsUnusable(f"{printable_path(path)} cannot be read: {error.strerror}") from error
    seen: dict[str, Correction] = {}
    damaged, first = 0, ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = Correction.from_json({"id": hashlib.sha256(line).hexdigest()[:32], **json.loads(line)})
        except (ValueError, TypeError, AttributeError) as error:
            damaged += 1
            first = first or f"line {number}: {printable(str(error), 100)}"
            continue
        seen.setdefault(one.id, one)
    if damaged and not seen:
        raise CorrectionsUnusable(f"{printable_path(path)} holds no corrections ({first})")
    return Corrections(list(seen.values()), damaged, first)


class CorrectionLog:
    """A file of corrections that is written to.

    Args:
        path: of the file; it is made if it is missing.

    Raises:
        CorrectionsUnusable: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        """Open it."""
        self.path = path
        self._turn = threading.Lock()
        try:
            make_folder(path.parent)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            sync_folder(path.parent)
        except OSError as error:
            raise CorrectionsUnusable(f"{printable_path(path)} cannot be written: {error.strerror}") from error

    def append(self, corrections: Iterable[Correction]) -> None:
        """Write corrections; when this returns they are on the disk. Those that are there already are left out.

        Raises:
            CorrectionsUnusable: the disk refuses, or one is too long; none of them counts then.
        """
        with self._turn:
            known = {one.id for one in read_corrections(self.path).all}
            lines = [one.to_line() for one in corrections if one.id not in known]
            if not lines:
                return
            if max(map(len, lines)) > _MOST_BYTES:
                raise CorrectionsUnusable("a correction is too long to be kept")
            data = b"".join(lines)
            if not self._ends_whole():
                data = b"\n" + data
            try:
                written = os.write(self._file, data)
                if written < len(data):
                    os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                    raise OSError(28, "no space left")
                os.fsync(self._file)
            except OSError as error:
                raise CorrectionsUnusable(
                    f"{printable_path(self.path)} cannot be written: {error.strerror}; free some space and try again"
                ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _ends_whole(self) -> bool:
        size = os.fstat(self._file).st_size
        return not size or os.pread(self._file, 1, size - 1) == b"\n"


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
