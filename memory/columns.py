"""The columns of a memory's tables, from mapped files or from arrays, and what readers see of them.

Rows are stored in the order in which they were written; some of them are dead, as their category was removed. Readers
see the live ones sorted by category id, those of one category in stored order. A large memory is read where it is
used: vectors in parts, which become float32, and categories one by one.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.category import Category, Description, matching_category
from memory.halves import Halves, widened
from memory.vectors import Matrix, MemoryVectors, VectorRows

Rows = NDArray[np.int64]

# Vectors up to this many bytes of fp16 are converted when a memory is opened: they then fill twice as much RAM, and no
# batch of images converts them again. The conversion reads and writes each number once whatever the images, so it
# weighs most beside the products of few images. Larger memories would fill too much RAM: they are converted part by
# part.
LOADED_BYTES = 256 * 2**20
# Categories that are made of their cells together.
_CATEGORIES_AT_A_TIME = 2048


class StoredRows:
    """(N, D) vectors that are stored as fp16, perhaps in a mapped file; what is read of them becomes float32.

    Args:
        halves: (P, D) all stored rows.
        order: (N) the stored row of each row; None: the same.
        check: called with stored rows before they are read.
    """

    def __init__(self, halves: Halves, order: Rows | None, check: Callable[[Rows | slice], None]) -> None:
        """Keep the arrays; nothing is read."""
        self._halves = halves
        self._order = order
        self._check = check

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return (len(self), self._halves.shape[1])

    def __len__(self) -> int:
        """Return N."""
        return len(self._halves) if self._order is None else len(self._order)

    def __getitem__(self, index: Any) -> Matrix:  # noqa: ANN401  whatever selects rows of an array
        """Return the (n, D) float32 rows that a slice or row numbers from 0 select; (D) for a single number."""
        if isinstance(index, (int, np.integer)):
            row: Matrix = self[np.array([range(len(self))[int(index)]])][0]
            return row
        if self._order is not None:
            return self._read(self._order[index])
        return self._read(index if isinstance(index, slice) else np.asarray(index, np.int64))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401  as NumPy calls it
        """Return all rows."""
        return self[:].astype(dtype or np.float32, copy=False)

    def _read(self, rows: Rows | slice) -> Matrix:
        self._check(rows)
        return widened(self._halves[rows])


class Texts(Sequence[str]):
    """A column of texts.

    Args:
        column: (P) stored.
        order: (N) the stored row of each row; None: the same.
    """

    def __init__(self, column: pa.ChunkedArray, order: Rows | None) -> None:
        """Keep the column; nothing is read."""
        self._column = column
        self._order = order

    def __len__(self) -> int:
        """Return N."""
        return len(self._column) if self._order is None else len(self._order)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one text, or several."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if self._order is None and step == 1:
                texts: list[str] = self._column.slice(start, max(stop - start, 0)).to_pylist()
                return texts
            return [self[place] for place in range(start, stop, step)]
        place = range(len(self))[index]
        text: str = self._column[place if self._order is None else int(self._order[place])].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        """Yield the texts."""
        for start in range(0, len(self), _CATEGORIES_AT_A_TIME):
            yield from self[start : start + _CATEGORIES_AT_A_TIME]


@dataclass(frozen=True, slots=True, eq=False)
class TableColumns:
    """The columns of one table: P stored rows.

    Attributes:
        texts: (P) rows of all columns but the vectors: ids and keys as numbers and bytes, texts, flags.
        halves: by column, (P, D) vectors.
        dead: ascending stored rows that readers do not see.
        check: by column of vectors, called with stored rows before they are read.
    """

    texts: pa.Table
    halves: Mapping[str, Halves]
    dead: Rows
    check: Mapping[str, Callable[[Rows | slice], None]]

    @property
    def ids(self) -> NDArray[np.uint64]:
        """(P) ids of the categories, as numbers."""
        return numbers(self.texts.column("id"), np.dtype(np.uint64))

    @property
    def live(self) -> Rows:
        """(N) ascending stored rows that readers see."""
        alive = np.ones(self.texts.num_rows, bool)
        alive[self.dead] = False
        return np.flatnonzero(alive)

    @property
    def size(self) -> int:
        """Number N of live rows."""
        return int(self.texts.num_rows) - len(self.dead)

    def order(self) -> Rows | None:
        """Return the (N) live rows sorted by category id, in stored order within one; None for all rows as stored."""
        ids = self.ids
        if not len(self.dead) and (ids[1:] >= ids[:-1]).all():
            return None
        live = self.live
        return live[np.argsort(ids[live], kind="stable")]

    def rows(self, column: str, order: Rows | None) -> StoredRows:
        """Return a column of vectors."""
        return StoredRows(self.halves[column], order, self.check[column])


class StoredCategories(Sequence[Category]):
    """The categories of a memory, each made when it is asked for.

    Args:
        columns: names, groups and cells of metadata.
        descriptions: texts, kinds and sources of descriptions, sorted by category; None: without them.
        offsets: (C + 1) where the descriptions of each begin.
        exemplars: references of exemplars.
        exemplar_offsets: (C + 1) where those of each begin.
    """

    def __init__(
        self,
        columns: tuple[Texts, Texts, Texts],
        descriptions: tuple[Texts, Texts, Texts] | None,
        offsets: Rows,
        exemplars: Texts | None,
        exemplar_offsets: Rows,
    ) -> None:
        """Keep the columns."""
        self._columns = columns
        self._descriptions = descriptions
        self._offsets = offsets
        self._exemplars = exemplars
        self._exemplar_offsets = exemplar_offsets

    @property
    def names(self) -> Texts:
        """The names alone, without making categories of them."""
        return self._columns[0]

    @property
    def groups(self) -> Texts:
        """The groups alone."""
        return self._columns[1]

    def __len__(self) -> int:
        """Return the number of categories."""
        return len(self._columns[0])

    @overload
    def __getitem__(self, index: int) -> Category: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Category]: ...
    def __getitem__(self, index: int | slice) -> Category | Sequence[Category]:
        """Return one category, or several."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._between(start, stop) if step == 1 else [self[place] for place in range(start, stop, step)]
        place = range(len(self))[index]
        return self._between(place, place + 1)[0]

    def __iter__(self) -> Iterator[Category]:
        """Yield the categories."""
        for start in range(0, len(self), _CATEGORIES_AT_A_TIME):
            yield from self._between(start, min(start + _CATEGORIES_AT_A_TIME, len(self)))

    def _between(self, start: int, stop: int) -> list[Category]:
        if stop <= start:
            return []
        part = slice(start, stop)
        names, groups, metadata = (column[part] for column in self._columns)
        own: list[tuple[Description, ...]] = [()] * len(names)
        if self._descriptions is not None:
            first, last = self._offsets[start], self._offsets[stop]
            cells = zip(*(column[int(first) : int(last)] for column in self._descriptions), strict=True)
            texts = [Description(*fields) for fields in cells]
            places = (self._offsets[start : stop + 1] - first).tolist()
            own = [tuple(texts[places[i] : places[i + 1]]) for i in range(len(names))]
        images: list[tuple[str, ...]] = [()] * len(names)
        if self._exemplars is not None and len(self._exemplars):
            places = self._exemplar_offsets[start : stop + 1].tolist()
            images = [tuple(self._exemplars[places[i] : places[i + 1]]) for i in range(len(names))]
        return [category_of(*cells) for cells in zip(names, groups, own, metadata, images, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryColumns:
    """The columns of all tables of a memory.

    Attributes:
        tables: by name.
    """

    tables: Mapping[str, TableColumns]

    def category_ids(self) -> NDArray[np.uint64]:
        """Return the (C) ids of the categories, ascending."""
        columns = self.tables["categories"]
        return np.sort(columns.ids[columns.live])

    def hexadecimal_ids(self) -> set[str]:
        """Return the ids of the categories as texts."""
        return {f"{number:016x}" for number in self.category_ids().tolist()}

    def categories(self, *, bare: bool = False) -> StoredCategories:
        """Return the categories, sorted by id; ``bare``: without descriptions and exemplars."""
        own = self.tables["categories"]
        order = own.order()
        names, groups, metadata = (Texts(own.texts.column(name), order) for name in ("name", "group", "metadata"))
        if bare:
            nothing = np.zeros(len(names) + 1, np.int64)
            return StoredCategories((names, groups, metadata), None, nothing, None, nothing)
        ids = self.category_ids()
        described, shown = self.tables["descriptions"], self.tables["exemplars"]
        texts_order, images_order = described.order(), shown.order()
        texts, kinds, sources = (Texts(described.texts.column(n), texts_order) for n in ("text", "kind", "source"))
        return StoredCategories(
            (names, groups, metadata),
            (texts, kinds, sources),
            _offsets(ids, described, texts_order),
            Texts(shown.texts.column("reference"), images_order),
            _offsets(ids, shown, images_order),
        )

    def categories_of(self, ids: Iterable[str]) -> dict[str, Category]:
        """Return the categories of those ids that are here."""
        present, categories = self.category_ids(), self.categories()
        found = {}
        for text in ids:
            row = int(np.searchsorted(present, np.uint64(int(text, 16))))
            if row < len(present) and present[row] == int(text, 16):
                found[text] = categories[row]
        return found

    def rows_of(self, ids: Iterable[str]) -> Rows:
        """Return (n,) ascending rows of the categories of ids that are here."""
        wanted = np.array([int(text, 16) for text in ids], np.uint64)
        return np.sort(np.searchsorted(self.category_ids(), wanted)).astype(np.int64)

    def matching(self, text: str) -> Category:
        """Return the one category with this name or id, without making the others; errors are those of the search."""
        wanted = {text, unicodedata.normalize("NFC", text)}
        categories = self.categories()
        named = [categories[row] for row, name in enumerate(categories.names) if name in wanted]
        ids = (each for each in wanted if len(each) == 16 and not set(each) - set("0123456789abcdef"))
        found = {category.id: category for category in named} | self.categories_of(ids)
        return matching_category(list(found.values()) or categories, text)

    def exemplar_counts(self) -> dict[str, int]:
        """Return how many exemplars each category has that has any, by id."""
        shown = self.tables["exemplars"]
        ids, counts = np.unique(shown.ids[shown.live], return_counts=True)
        return {f"{number:016x}": count for number, count in zip(ids.tolist(), counts.tolist(), strict=True)}

    def vectors(self) -> MemoryVectors:
        """Return what readers see; a small memory is read whole, and of a large one no vector."""
        own, described, shown, unlike = (
            self.tables[name] for name in ("categories", "descriptions", "exemplars", "negatives")
        )
        ids, categories = self.category_ids(), self.categories()
        texts_order, images_order = described.order(), shown.order()
        names = own.rows("vector", own.order())
        grounded, bare = described.rows("grounded", texts_order), described.rows("bare", texts_order)
        size = 2 * sum(len(rows) * rows.shape[1] for rows in (names, grounded, bare))
        is_small = size <= LOADED_BYTES
        texts = Texts(described.texts.column("text"), texts_order)
        chosen = unlike.live[np.array(unlike.texts.column("chosen").to_pylist(), bool)[unlike.live]]
        return MemoryVectors(
            categories=list(categories) if is_small else categories,
            names=_loaded(names) if is_small else names,
            offsets=_offsets(ids, described, texts_order),
            grounded=_loaded(grounded) if is_small else grounded,
            bare=_loaded(bare) if is_small else bare,
            descriptions=list(texts) if is_small else texts,
            exemplar_offsets=_offsets(ids, shown, images_order),
            exemplars=_loaded(shown.rows("vector", images_order)),
            exemplar_hashes=list(Texts(shown.texts.column("sha256"), images_order)),
            exemplar_references=list(Texts(shown.texts.column("reference"), images_order)),
            negatives=_loaded(unlike.rows("vector", chosen)),
            negative_names=list(Texts(unlike.texts.column("name"), chosen)),
        )


def names_and_groups(categories: Sequence[Category]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names and the groups of categories, without making those of a large memory."""
    if isinstance(categories, StoredCategories):
        return categories.names, categories.groups
    return [category.name for category in categories], [category.group for category in categories]


def category_of(
    name: str, group: str, descriptions: tuple[Description, ...], metadata_cell: str, exemplars: tuple[str, ...]
) -> Category:
    """Make a category of its cells; see ``metadata_cell``."""
    value = json.loads(metadata_cell)
    metadata, aliases = (value, []) if isinstance(value, dict) else value
    return Category(name, group, descriptions, metadata, exemplars, tuple(aliases))


def metadata_cell(category: Category) -> str:
    """Return metadata as a JSON object; with aliases, as the list of that object and the list of aliases.

    So memories without aliases, earlier ones among them, have the same cells as before aliases were stored.
    """
    metadata = dict(category.metadata)
    value = [metadata, list(category.aliases)] if category.aliases else metadata
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def numbers(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a column of numbers, or of bytes of one length, as an array.

    pyarrow's own ways are slow to start: conversions load pandas, others load `pyarrow.compute` (0.2 s).
    """
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize)
        for chunk in column.chunks
        if len(chunk)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])


def _offsets(ids: NDArray[np.uint64], owned: TableColumns, order: Rows | None) -> Rows:
    """Return (C + 1) int64 where the rows of each of C sorted ids begin in a table."""
    owners = owned.ids if order is None else owned.ids[order]
    return np.append(np.searchsorted(owners, ids, side="left"), len(owners)).astype(np.int64)


def _loaded(rows: VectorRows) -> Matrix:
    matrix = rows[:]
    matrix.setflags(write=False)
    return matrix
