"""What all formats of label files share: the file as text, and its rows."""

from __future__ import annotations

import io
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO, TypeVar

from memory.category import Description
from memory.errors import LabelError

# A larger file is read line by line where its format allows that; the texts of a smaller one are held.
HELD_BYTES = 2**24
# Of a file, by which its format is told: blanks and comments before the first entry are shorter.
_START_CHARACTERS = 2**20

# What stands at the start of files that users take for label files by mistake. None of these bytes begins a text.
_BINARY_KINDS = (
    (re.compile(rb"\xff\xd8\xff"), "a JPEG image"),
    (re.compile(rb"\x89PNG"), "a PNG image"),
    (re.compile(rb"GIF8[79]a"), "a GIF image"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "a WebP image"),
    (re.compile(rb"II\*\0|MM\0\*"), "a TIFF image or a RAW photo"),
    (re.compile(rb"....ftyp", re.DOTALL), "a HEIC or AVIF image, or a video"),
    (re.compile(rb"%PDF-"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "an Excel sheet or a ZIP archive"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an Excel sheet or a Word document"),
    (re.compile(rb"\x1f\x8b"), "a compressed file"),
    (re.compile(rb"PAR1"), "a Parquet table"),
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One entry of a label file, with its place: a 1-based line or row, or a position in a JSON document.

    Of group, parent and ranks (of a taxonomy, from the top; empty where unknown) it has one, or none.
    """

    name: str
    group: str = ""
    descriptions: Sequence[Description] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    exemplars: Sequence[str] = ()
    aliases: Sequence[str] = ()
    line: int | None = None
    where: str | None = None
    row: int | None = None
    parent: str = ""
    ranks: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The place of the row, for messages."""
        if self.line is not None:
            return f"line {self.line}"
        return f"row {self.row}" if self.row is not None else self.where or "the file"

    def error(self, message: str, path: Path, remedy: str) -> LabelError:
        """Return an error that names the file and the place of this row."""
        where = self.where if self.row is None else self.place
        return LabelError(message, file=path, line=self.line, where=where, remedy=remedy)


class Labelling(NamedTuple):
    """A format that a label file was found to have.

    Attributes:
        format: for people ("YOLO names").
        rows: of the file.
        has_lineage: whether a row may have a parent or ranks, which takes all rows to follow.
    """

    format: str
    rows: Iterable[LabelRow]
    has_lineage: bool = True


@dataclass(frozen=True, slots=True)
class LabelFile:
    r"""The text of a label file, with what the user said about it.

    Attributes:
        path: of the file, for messages.
        held: its text, with lines that end in ``\n`` or ``\r\n``; None for a file that is read where it is used.
        header: whether the first line is a header; None where the file must show it.
        name_column: the column or field that holds the names; None for "name".
        notes: sentences about what was left out, which the reader of a format adds.
        skips_bad: whether a JSON entry that cannot be read is left out and noted, as long as another can be.
    """

    path: Path
    held: str | None
    header: bool | None = None
    name_column: str | None = None
    notes: list[str] = field(default_factory=list)
    skips_bad: bool = False

    def error(self, message: str, remedy: str, *, line: int | None = None, where: str | None = None) -> LabelError:
        """Return an error that names this file."""
        return LabelError(message, file=self.path, remedy=remedy, line=line, where=where)

    @property
    def text(self) -> str:
        """The whole text."""
        if self.held is not None:
            return self.held
        with self.stream() as stream:
            return stream.read()

    @property
    def start(self) -> str:
        """The text, or the first million characters of a longer one."""
        if self.held is not None:
            return self.held[:_START_CHARACTERS]
        with self.stream() as stream:
            return stream.read(_START_CHARACTERS)

    def stream(self) -> TextIO:
        """Return the text as a stream, whose lines end as they do in the file."""
        if self.held is not None:
            return io.StringIO(self.held, newline="\n")
        return self.path.open(encoding="utf-8-sig", newline="\n")

    def lines(self) -> Iterator[str]:
        """Yield the lines without their ends; other separators, such as U+2028, belong to a line."""
        with self.stream() as stream:
            for line in stream:
                yield line.removesuffix("\n").removesuffix("\r")


def held_text(path: Path) -> str | None:
    """Return the text of a UTF-8 file as `read_text` does; None for a large one, after it has been checked.

    Raises:
        LabelError: as `read_text`.
    """
    try:
        # Of a pipe, which can be read once, the size is 0.
        if path.stat().st_size > HELD_BYTES and _binary_kind(path) is None and _is_text(path):
            return None
    except (OSError, UnicodeDecodeError):
        pass  # as `read_text` says with its place
    return read_text(path)


def _binary_kind(path: Path) -> str | None:
    with path.open("rb") as stream:
        start = stream.read(16)
    return next((kind for pattern, kind in _BINARY_KINDS if pattern.match(start)), None)


def _is_text(path: Path) -> bool:
    """Say whether a UTF-8 file has more than blanks."""
    has_text = False
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        while block := stream.read(_START_CHARACTERS):
            has_text = has_text or bool(block.strip())
    return has_text


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises:
        LabelError: the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(
            f"cannot be read: {error.strerror}", file=path, remedy="Check the path and its permissions"
        ) from error
    kind = next((kind for start, kind in _BINARY_KINDS if start.match(data)), None)
    if kind is not None:
        remedy = "Save the sheet as CSV" if "Excel" in kind else "Give a file of text"
        raise LabelError(f"this is {kind}", file=path, remedy=remedy)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = " (it looks like UTF-16 text)" if data.startswith(_UTF_16) else ""
        raise LabelError(
            f"byte {error.start} is not UTF-8{kind}", file=path, line=line, remedy="Save the file as UTF-8"
        ) from error
    if not text.strip():
        raise LabelError("the file is empty", file=path, remedy="Give another file")
    return text


class Examples:
    """Counts sentences, and shows the first three."""

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._shown: list[str] = []

    def add(self, example: str) -> None:
        """Count a sentence."""
        self.count += 1
        if len(self._shown) < 3:
            self._shown.append(example)

    def __str__(self) -> str:
        """Return the first three, with dots where there are more."""
        return "; ".join([*self._shown, "..."] if self.count > len(self._shown) else self._shown)


def first_repeated(items: Iterable[Item]) -> Item | None:
    """Return the item that is the first to occur again; None if all are distinct."""
    seen: set[Item] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def make_description(file: LabelFile, text: str, kind: str, source: str, **place: int | str | None) -> Description:
    """Make a description.

    Raises:
        LabelError: the text cannot be stored; the message has its place.
    """
    line, where = place.get("line"), place.get("where")
    try:
        return Description(text, "sentence" if kind == "sentence" else "attribute", source)
    except ValueError as error:
        raise file.error(
            str(error),
            "Correct this description",
            line=line if isinstance(line, int) else None,
            where=where if isinstance(where, str) else None,
        ) from error
