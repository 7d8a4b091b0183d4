"""Merging the categories of a label file or a build: few are held, many wait on the disk."""

from __future__ import annotations

import copy
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import overload

import numpy as np
from numpy.typing import NDArray

from memory.category import Category, Description
from memory.spool import Spool

# Categories that are held as objects of Python, of 1 to 2 kB each; more wait on the disk, and take 40 bytes each.
HELD_CATEGORIES = 20_000
# Categories that are made together of what waits on the disk.
_CATEGORIES_AT_A_TIME = 2048


def merge_categories(categories: Iterable[Category]) -> Sequence[Category]:
    """Merge categories of equal name and group, in the order of their first appearance.

    Descriptions, exemplars and aliases are joined in order, without duplicates; descriptions are duplicates when text
    and kind are equal, from any source, and so is an alias that is the name. Where metadata values under one key
    differ, the first one is used.

    Args:
        categories: any number; they are read once, and more than `HELD_CATEGORIES` wait on the disk.
    """
    if isinstance(categories, SpooledCategories):
        return categories
    # Rows of one category mostly follow each other, and are merged before anything is held of them.
    runs = (_merge(run) for _, run in groupby(categories, key=_key))
    held = list(islice(runs, HELD_CATEGORIES + 1))
    if len(held) > HELD_CATEGORIES:
        return SpooledCategories(chain(held, runs))
    groups: dict[tuple[str, str], list[Category]] = {}
    for category in held:
        groups.setdefault(_key(category), []).append(category)
    return [members[0] if len(members) == 1 else _merge(members) for members in groups.values()]


def sorted_by_id(categories: Sequence[Category]) -> Sequence[Category]:
    """Return merged categories in the order of their ids."""
    if isinstance(categories, SpooledCategories):
        return categories.sorted_by_id()
    return sorted(categories, key=lambda category: category.id)


class SpooledCategories(Sequence[Category]):
    """Merged categories that wait on the disk; each is made when it is asked for.

    Args:
        parts: without duplicates in one; those of equal name and group are parts of one category.
    """

    def __init__(self, parts: Iterable[Category]) -> None:
        """Write them to a temporary file.

        Raises:
            WriteFailed: the disk refuses.
        """
        self._spool = Spool()
        numbers = array("Q")
        for part in parts:
            self._spool.append(_packed(part))
            numbers.append(int(part.id, 16))
        ids = np.frombuffer(numbers, np.uint64)
        # Parts sorted by id, and in their order within one; those of category c, by id, are starts[c]:starts[c + 1].
        self._parts: NDArray[np.int64] = np.argsort(ids, kind="stable")
        firsts = np.flatnonzero(np.diff(ids[self._parts], prepend=~ids[self._parts[:1]]))
        self._starts: NDArray[np.int64] = np.append(firsts, len(ids))
        self._order: NDArray[np.int64] = np.argsort(self._parts[firsts])

    def sorted_by_id(self) -> SpooledCategories:
        """Return the same categories in the order of their ids."""
        view = copy.copy(self)
        view._order = np.arange(len(self._order))
        return view

    def __len__(self) -> int:
        """Return the number of categories."""
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Category: ...
    @overload
    def __getitem__(self, index: slice) -> list[Category]: ...
    def __getitem__(self, index: int | slice) -> Category | list[Category]:
        """Return one category, or several."""
        if isinstance(index, slice):
            return [self._category(number) for number in self._order[index].tolist()]
        return self._category(int(self._order[index]))

    def __iter__(self) -> Iterator[Category]:
        """Yield the categories."""
        for start in range(0, len(self), _CATEGORIES_AT_A_TIME):
            yield from self[start : start + _CATEGORIES_AT_A_TIME]

    def _category(self, number: int) -> Category:
        start, stop = self._starts[number : number + 2].tolist()
        if stop == start + 1:
            return _unpacked(self._spool.read(self._parts[start:stop].tolist())[0])
        return _merge(self._read(start, stop))

    def _read(self, start: int, stop: int) -> Iterator[Category]:
        """Yield parts in their order; one category may have a million."""
        for first in range(start, stop, _CATEGORIES_AT_A_TIME):
            places = self._parts[first : min(first + _CATEGORIES_AT_A_TIME, stop)].tolist()
            yield from map(_unpacked, self._spool.read(places))


def _key(category: Category) -> tuple[str, str]:
    return category.name, category.group


def _packed(category: Category) -> bytes:
    descriptions = [(each.text, each.kind, each.source) for each in category.descriptions]
    fields = [category.name, category.group, dict(category.metadata), category.exemplars, category.aliases]
    return json.dumps([descriptions, *fields]).encode()


def _unpacked(data: bytes) -> Category:
    descriptions, name, group, metadata, exemplars, aliases = json.loads(data)
    texts = tuple(Description(*fields) for fields in descriptions)
    return Category(name, group, texts, metadata, tuple(exemplars), tuple(aliases))


def _merge(members: Iterable[Category]) -> Category:
    """Merge categories of one name and group, at least one."""
    rest = iter(members)
    first = next(rest)
    descriptions: dict[tuple[str, str], Description] = {}
    metadata: dict[str, str] = {}
    exemplars: dict[str, None] = {}
    aliases: dict[str, None] = {}
    for member in chain([first], rest):
        for description in member.descriptions:
            descriptions.setdefault((description.text, description.kind), description)
        for key, value in member.metadata.items():
            metadata.setdefault(key, value)
        exemplars.update(dict.fromkeys(member.exemplars))
        aliases.update(dict.fromkeys(alias for alias in member.aliases if alias != first.name))
    return Category(first.name, first.group, tuple(descriptions.values()), metadata, tuple(exemplars), tuple(aliases))
