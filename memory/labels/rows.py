"""What all formats of label files share: the file as text, its rows, and categories made of rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memory.category import Category, Description, merge_categories
from memory.errors import LabelError, printable

KEYS = ("name", "name,group")


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One entry of a label file, with its place: a 1-based line, or a position in a JSON document."""

    name: str
    group: str = ""
    descriptions: Sequence[Description] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    exemplars: Sequence[str] = ()
    line: int | None = None
    where: str | None = None

    @property
    def place(self) -> str:
        """The place of the row, for messages."""
        return f"line {self.line}" if self.line is not None else self.where or "the file"


@dataclass(frozen=True, slots=True)
class LabelFile:
    r"""The text of a label file, with lines that end in ``\n`` or ``\r\n``, and its path, for messages."""

    path: Path
    text: str

    def error(self, message: str, remedy: str, *, line: int | None = None, where: str | None = None) -> LabelError:
        """Return an error that names this file."""
        return LabelError(message, file=self.path, remedy=remedy, line=line, where=where)

    def lines(self) -> list[str]:
        """Return the lines without their ends; other separators, such as U+2028, belong to a line."""
        return [line.removesuffix("\r") for line in self.text.split("\n")]


def read_text(path: Path) -> LabelFile:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        LabelError: the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(
            f"cannot be read: {error.strerror}", file=path, remedy="Check the path and its permissions"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = " (it looks like UTF-16)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise LabelError(
            f"byte {error.start} is not UTF-8{kind}", file=path, line=line, remedy="Save the file as UTF-8"
        ) from error
    if not text.strip():
        raise LabelError("the file is empty", file=path, remedy="Write at least one category name into it")
    return LabelFile(path, text)


def rows_to_categories(rows: Iterable[LabelRow], path: Path, key: str) -> list[Category]:
    """Make categories of rows, in file order: names are normalised to NFC, rows of one name and group are merged.

    Args:
        rows: the rows of a label file.
        path: the file, for messages.
        key: "name" when a name is one category, "name,group" when equal names in different groups are different ones.

    Raises:
        LabelError: a text that cannot be stored, the same name in two groups under the key "name", or no row at all.
    """
    if key not in KEYS:
        raise ValueError(f"key {key!r} is neither 'name' nor 'name,group'")
    categories: list[Category] = []
    first_seen: dict[str, tuple[str, LabelRow]] = {}
    for row in rows:
        category = _category(row, path)
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
        categories.append(category)
    if not categories:
        raise LabelError("the file has no category", file=path, remedy="Write at least one category name into it")
    return merge_categories(categories)


def _category(row: LabelRow, path: Path) -> Category:
    try:
        return Category(
            name=unicodedata.normalize("NFC", row.name),
            group=unicodedata.normalize("NFC", row.group),
            descriptions=tuple(row.descriptions),
            metadata=dict(row.metadata),
            exemplars=tuple(row.exemplars),
        )
    except ValueError as error:
        raise LabelError(str(error), file=path, line=row.line, where=row.where, remedy="Correct this entry") from error


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
