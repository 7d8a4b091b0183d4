"""Categories made of the rows of a label file, one row at a time."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.category import Category
from memory.errors import LabelError, printable
from memory.labels.names import clean_name
from memory.labels.rows import Examples, LabelRow
from memory.merging import merge_categories
from memory.templates import prompt_name
from memory.wording import counted

# CuPL has 50 descriptions of a name; with many more, the column of names mostly holds something else, such as groups.
MOST_DESCRIPTIONS = 1000
KEYS = ("name", "name,group")
ALIASES = (None, "comma")


def rows_to_categories(
    rows: Iterable[LabelRow], path: Path, key: str, aliases: str | None, notes: list[str]
) -> Sequence[Category]:
    """Make categories of rows, in file order: names are cleaned, rows of one name and group are merged.

    Args:
        rows: the rows of a label file; they are read once.
        path: the file, for messages.
        key: "name" when a name is one category, "name,group" when equal names in different groups are different ones.
        aliases: "comma" when a name is several names with commas between them, the first of which is shown.
        notes: gets sentences about names that were changed, names and descriptions that occur twice, names that
            differ in case or blanks alone, and names of more than `MOST_DESCRIPTIONS`.

    Raises:
        LabelError: a text that cannot be stored, the same name in two groups under the key "name", or no row at all.
    """
    if key not in KEYS:
        raise ValueError(f"key {key!r} is neither 'name' nor 'name,group'")
    if aliases not in ALIASES:
        raise ValueError(f"aliases {aliases!r} is neither None nor 'comma'")
    checked = _CheckedRows(rows, path, key, aliases)
    categories = merge_categories(checked)
    if not categories:
        raise LabelError("the file has no category", file=path, remedy="Write at least one category name into it")
    notes += checked.notes(categories)
    return categories


class _CheckedRows(Iterable[Category]):
    """The category of each row, and what is to be said of them afterwards."""

    def __init__(self, rows: Iterable[LabelRow], path: Path, key: str, aliases: str | None) -> None:
        self._rows = rows
        self._path = path
        self._key = key
        self._aliases = aliases
        self._first = _FirstRows()
        self._descriptions = _Descriptions()
        self._changed, self._repeated = Examples(), Examples()
        self._count = self._with_commas = 0

    def __iter__(self) -> Iterator[Category]:
        """Yield the categories; a row that only repeats a name adds nothing, and is left out."""
        for row in self._rows:
            category = _category(row, self._path, self._aliases)
            self._count += 1
            self._with_commas += ", " in category.name
            if (clean := clean_name(row.name)) != row.name:
                self._changed.add(f"'{printable(row.name)}' ({row.place}), read as '{printable(clean)}'")
            key = category.name if self._key == "name" else (category.name, category.group)
            earlier = self._first.before(key, row, category)
            if earlier is not None and earlier.group != category.group:
                raise row.error(
                    f"the name {printable(category.name)!r} is in two groups: {printable(earlier.group)!r} "
                    f"({earlier.place}) and {printable(category.group)!r} ({row.place})",
                    self._path,
                    "Pass --key name,group to make two categories of them, or give them one group",
                )
            # Several rows for the descriptions or images of one category are usual in tables.
            is_bare = not (category.descriptions or category.exemplars)
            if earlier is not None and (is_bare or not earlier.is_written_alike):
                self._repeated.add(f"{printable(category.name)!r} ({earlier.place} and {row.place})")
            self._descriptions.add(category, row)
            if earlier is None or not is_bare or category.metadata or category.aliases:
                yield category

    def notes(self, categories: Sequence[Category]) -> Iterator[str]:
        """Yield sentences, after all rows were read and merged into these categories."""
        if self._changed.count:
            yield (
                f"{counted(self._changed.count, 'name')} with invisible, control or decomposed characters changed: "
                f"{self._changed}"
            )
        if self._repeated.count:
            yield f"{counted(self._repeated.count, 'repeated name')}, merged into one category each: {self._repeated}"
        count, place = self._descriptions.repeated()
        if count:
            yield f"{counted(count, 'description')} that the category has already, left out; the first: {place}"
        yield from self._first.notes(categories)
        if self._aliases is None and self._with_commas * 2 > self._count:
            yield (
                f"names have commas, such as {printable(categories[0].name)!r}; "
                "if they separate several names of one thing, pass --aliases comma"
            )


class _Earlier(NamedTuple):
    """The first row of a name: its group and place, and whether the name is written as in a later row."""

    group: str
    place: str
    is_written_alike: bool


class _Places:
    """The places of rows, 8 bytes for each that is a line or a row of a table without lines."""

    def __init__(self) -> None:
        self._numbers = array("q")  # lines; rows are below 0
        self._others: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def append(self, row: LabelRow) -> None:
        number = row.line or -(row.row or 0)
        if not number:
            self._others[len(self._numbers)] = row.place
        self._numbers.append(number)

    def __getitem__(self, place: int) -> str:
        number = self._numbers[place]
        return self._others[place] if not number else f"line {number}" if number > 0 else f"row {-number}"


class _FirstRows:
    """The first row of each key, in some 170 bytes: names are compared by their hashes of 64 bits."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._written = array("q")
        self._words = array("q")
        self._descriptions = array("q")
        self._groups = array("q")
        self._group_numbers: dict[str, int] = {}
        self._group_names: list[str] = []
        self._places = _Places()

    def before(self, key: Hashable, row: LabelRow, category: Category) -> _Earlier | None:
        """Return the first row of a key; None where this row is it."""
        number = self._numbers.setdefault(hash(key), len(self._places))
        if number < len(self._places):
            self._descriptions[number] += len(category.descriptions)
            is_alike = self._written[number] == hash(row.name)
            return _Earlier(self._group_names[self._groups[number]], self._places[number], is_alike)
        group_number = self._group_numbers.setdefault(category.group, len(self._group_names))
        if group_number == len(self._group_names):
            self._group_names.append(category.group)
        self._groups.append(group_number)
        self._written.append(hash(row.name))
        self._words.append(hash((" ".join(prompt_name(category.name).casefold().split()), category.group)))
        self._descriptions.append(len(category.descriptions))
        self._places.append(row)
        return None

    def notes(self, categories: Sequence[Category]) -> Iterator[str]:
        """Yield sentences about names that are nearly equal, and about those with too many descriptions.

        Args:
            categories: one for each key, in their order.
        """
        firsts, again = _repeated(self._words)
        if len(again):
            shown = [
                f"{printable(categories[place].name)!r} ({self._places[place]})"
                f" and {printable(categories[first].name)!r} ({self._places[first]})"
                for first, place in zip(firsts[:3].tolist(), again[:3].tolist(), strict=True)
            ]
            yield (
                f"{counted(len(again), 'name')} with the same words as an earlier one, up to case and blanks, kept "
                f"apart; write them alike to merge them: {'; '.join(shown)}"
                + ("; ..." if len(again) > len(shown) else "")
            )
        counts = np.frombuffer(self._descriptions, np.int64)
        crowded = np.flatnonzero(counts > MOST_DESCRIPTIONS)
        if len(crowded):
            first = int(crowded[0])
            yield (
                f"{counted(len(crowded), 'name')} with more than {MOST_DESCRIPTIONS} descriptions, such as "
                f"{printable(categories[first].name)!r} with {counts[first]}; if the names are those of groups, say "
                "with --name-column which column holds the names"
            )


class _Descriptions:
    """Counts the descriptions that a category has twice, by hashes of 64 bits."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._places = _Places()

    def add(self, category: Category, row: LabelRow) -> None:
        for each in category.descriptions:
            self._hashes.append(hash((category.name, category.group, each.text, each.kind)))
            self._places.append(row)

    def repeated(self) -> tuple[int, str]:
        """Return how many there are beyond the first of each, and the place of the first of these."""
        _, again = _repeated(self._hashes)
        return len(again), self._places[int(again[0])] if len(again) else ""


def _repeated(hashes: array[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (R) places of hashes that occurred before, ascending, and the first place of each."""
    values = np.frombuffer(hashes, np.int64)
    order = np.argsort(values, kind="stable")
    is_again = np.diff(values[order], prepend=~values[order[:1]]) == 0
    firsts = order[np.maximum.accumulate(np.where(is_again, 0, np.arange(len(order))))][is_again]
    again = order[is_again]
    by_place = np.argsort(again)
    return firsts[by_place], again[by_place]


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
        raise row.error(str(error), path, "Correct this entry") from error


def _clean(name: str, what: str) -> str:
    clean = clean_name(name)
    if name and not clean:
        raise ValueError(f"the {what} {printable(name)!r} has no visible character")
    return clean


def _comma_parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
