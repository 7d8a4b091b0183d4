"""What all formats of label files share: the file as text, its rows, and categories made of rows."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from memory.category import Category, Description, merge_categories
from memory.errors import LabelError, printable
from memory.labels.names import clean_name
from memory.wording import counted

KEYS = ("name", "name,group")
ALIASES = (None, "comma")

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
    """One entry of a label file, with its place: a 1-based line, or a position in a JSON document.

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
    parent: str = ""
    ranks: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The place of the row, for messages."""
        return f"line {self.line}" if self.line is not None else self.where or "the file"


class Labelling(NamedTuple):
    """A format that a label file was found to have, for people ("YOLO names"), and its rows."""

    format: str
    rows: Iterable[LabelRow]


@dataclass(frozen=True, slots=True)
class LabelFile:
    r"""The text of a label file, with what the user said about it.

    Attributes:
        path: of the file, for messages.
        text: its text, with lines that end in ``\n`` or ``\r\n``.
        header: whether the first line is a header; None where the file must show it.
        name_column: the column or field that holds the names; None for "name".
        notes: sentences about what was left out, which the reader of a format adds.
        skips_bad: whether a JSON entry that cannot be read is left out and noted, as long as another can be.
    """

    path: Path
    text: str
    header: bool | None = None
    name_column: str | None = None
    notes: list[str] = field(default_factory=list)
    skips_bad: bool = False

    def error(self, message: str, remedy: str, *, line: int | None = None, where: str | None = None) -> LabelError:
        """Return an error that names this file."""
        return LabelError(message, file=self.path, remedy=remedy, line=line, where=where)

    def lines(self) -> list[str]:
        """Return the lines without their ends; other separators, such as U+2028, belong to a line."""
        return [line.removesuffix("\r") for line in self.text.split("\n")]


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


def rows_to_categories(
    rows: Iterable[LabelRow], path: Path, key: str, aliases: str | None, notes: list[str]
) -> list[Category]:
    """Make categories of rows, in file order: names are cleaned, rows of one name and group are merged.

    Args:
        rows: the rows of a label file.
        path: the file, for messages.
        key: "name" when a name is one category, "name,group" when equal names in different groups are different ones.
        aliases: "comma" when a name is several names with commas between them, the first of which is shown.
        notes: gets a sentence about names that were changed, and one about names that occur twice.

    Raises:
        LabelError: a text that cannot be stored, the same name in two groups under the key "name", or no row at all.
    """
    if key not in KEYS:
        raise ValueError(f"key {key!r} is neither 'name' nor 'name,group'")
    if aliases not in ALIASES:
        raise ValueError(f"aliases {aliases!r} is neither None nor 'comma'")
    categories: list[Category] = []
    first_seen: dict[str, tuple[str, LabelRow]] = {}
    changed, repeated = Examples(), Examples()
    for row in rows:
        category = _category(row, path, aliases)
        if (clean := clean_name(row.name)) != row.name:
            changed.add(f"'{printable(row.name)}' ({row.place}), read as '{printable(clean)}'")
        group, first = first_seen.setdefault(category.name, (category.group, row))
        if key == "name" and group != category.group:
            raise LabelError(
                f"the name {printable(category.name)!r} is in two groups: {printable(group)!r} ({first.place}) "
                f"and {printable(category.group)!r} ({row.place})",
                file=path,
                line=row.line,
                where=row.where,
                remedy="Pass --key name,group to make two categories of them, or give them one group",
            )
        # Several rows for the descriptions or images of one category are usual in tables.
        is_bare = not (row.descriptions or row.exemplars)
        if first is not row and group == category.group and (is_bare or first.name != row.name):
            repeated.add(f"{printable(category.name)!r} ({first.place} and {row.place})")
        categories.append(category)
    if not categories:
        raise LabelError("the file has no category", file=path, remedy="Write at least one category name into it")
    if changed.count:
        notes.append(
            f"{counted(changed.count, 'name')} with invisible, control or decomposed characters changed: {changed}"
        )
    if repeated.count:
        notes.append(f"{counted(repeated.count, 'repeated name')}, merged into one category each: {repeated}")
    if aliases is None and sum(", " in c.name for c in categories) * 2 > len(categories):
        notes.append(
            f"names have commas, such as {printable(categories[0].name)!r}; "
            "if they separate several names of one thing, pass --aliases comma"
        )
    return merge_categories(categories)


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


def _category(row: LabelRow, path: Path, aliases: str | None) -> Category:
    name, others = row.name, list(row.aliases)
    if aliases == "comma":
        name, *first = _comma_parts(row.name) or [row.name]
        others = first + [part for alias in others for part in _comma_parts(alias)]
    try:
        return Category(
            name=_clean(name, "name"),
            group=clean_name(row.group),
            descriptions=tuple(row.descriptions),
            metadata=dict(row.metadata),
            exemplars=tuple(row.exemplars),
            aliases=tuple(_clean(alias, "alias") for alias in others),
        )
    except ValueError as error:
        raise LabelError(str(error), file=path, line=row.line, where=row.where, remedy="Correct this entry") from error


def _clean(name: str, what: str) -> str:
    clean = clean_name(name)
    if name and not clean:
        raise ValueError(f"the {what} {printable(name)!r} has no visible character")
    return clean


def _comma_parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


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
