"""Rows of the tables: their schema, how they are written, and how they are read into arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.category import Category, Description
from memory.halves import to_halves, widened
from memory.manifest import TableRecord
from memory.store import BATCH_ROWS, TableStore
from memory.texts import KEY_BYTES, BuildTexts, Keys, TextGroups, keys_from_bytes
from memory.vectors import ExemplarSet, Matrix, MemoryVectors

CATEGORY_TABLES = ("categories", "descriptions", "exemplars")
"""Those whose rows belong to categories."""
TABLES = (*CATEGORY_TABLES, "negatives")
VECTOR_COLUMNS = {
    "categories": (("key", "vector"),),
    "descriptions": (("grounded_key", "grounded"), ("bare_key", "bare")),
    "negatives": (("key", "vector"),),
}
"""By table, the pairs of a column of keys and a column of vectors; those of exemplars do not come from texts."""

READ_COLUMNS = {
    "categories": ("id", "name", "group", "metadata", "vector"),
    "descriptions": ("id", "category_id", "text", "kind", "source", "grounded", "bare"),
    "exemplars": ("id", "category_id", "reference", "sha256", "vector"),
    "negatives": ("id", "name", "chosen", "vector"),
}
"""By table, the columns that readers of a memory need: all but the keys, by which a build knows its texts again."""

VectorsOf = Callable[[TextGroups, slice], Matrix]
"""Gives the (n, D) unit rows for a slice of text groups."""


def schema(table: str, dim: int) -> pa.Schema:
    """Return the schema of a table with vectors of dimension ``dim``."""
    key, vector, text = pa.binary(KEY_BYTES), pa.list_(pa.float16(), dim), pa.large_string()
    columns = {
        "categories": [
            ("id", pa.string()),
            ("name", text),
            ("group", text),
            ("metadata", text),
            ("key", key),
            ("vector", vector),
        ],
        "descriptions": [
            ("id", pa.string()),
            ("category_id", pa.string()),
            ("text", text),
            ("kind", pa.string()),
            ("source", text),
            ("grounded_key", key),
            ("grounded", vector),
            ("bare_key", key),
            ("bare", vector),
        ],
        "exemplars": [
            ("id", pa.string()),
            ("category_id", pa.string()),
            ("reference", text),
            ("sha256", pa.string()),
            ("vector", vector),
        ],
        "negatives": [
            ("id", pa.string()),
            ("name", text),
            ("chosen", pa.bool_()),
            ("key", key),
            ("vector", vector),
        ],
    }
    return pa.schema(columns[table])


def category_batches(texts: BuildTexts, dim: int, vectors_of: VectorsOf) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table ``categories``."""
    for part in _slices(len(texts.categories)):
        categories = texts.categories[part]
        columns = [
            [category.id for category in categories],
            [category.name for category in categories],
            [category.group for category in categories],
            [_metadata_cell(category) for category in categories],
            _key_column(texts.names.keys[part]),
            _vector_column(vectors_of(texts.names, part)),
        ]
        yield _batch(columns, schema("categories", dim))


def description_batches(texts: BuildTexts, dim: int, vectors_of: VectorsOf) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table ``descriptions``."""
    rows = [
        (category.id, number, description)
        for category in texts.categories
        for number, description in enumerate(category.descriptions)
    ]
    for part in _slices(len(rows)):
        columns = [
            [_row_id(category_id, number) for category_id, number, _ in rows[part]],
            [category_id for category_id, _, _ in rows[part]],
            [description.text for _, _, description in rows[part]],
            [description.kind for _, _, description in rows[part]],
            [description.source for _, _, description in rows[part]],
            _key_column(texts.grounded.keys[part]),
            _vector_column(vectors_of(texts.grounded, part)),
            _key_column(texts.bare.keys[part]),
            _vector_column(vectors_of(texts.bare, part)),
        ]
        yield _batch(columns, schema("descriptions", dim))


def exemplar_batches(exemplars: ExemplarSet, present: Mapping[str, int], dim: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table ``exemplars``.

    Bytes of a path that are not UTF-8 are stored in escaped form.

    Args:
        exemplars: the rows.
        present: by category id, how many exemplars are in the table already; new ones are numbered after them.
        dim: dimension D.
    """
    counts = dict(present)
    ids = []
    for category_id in exemplars.category_ids:
        number = counts.get(category_id, 0)
        counts[category_id] = number + 1
        ids.append(_row_id(category_id, number))
    for part in _slices(len(ids)):
        columns = [
            ids[part],
            list(exemplars.category_ids[part]),
            [text.encode("utf-8", "backslashreplace").decode() for text in exemplars.references[part]],
            list(exemplars.hashes[part]),
            _vector_column(exemplars.vectors[part]),
        ]
        yield _batch(columns, schema("exemplars", dim))


def negative_batches(
    names: Sequence[str], texts: TextGroups, chosen: NDArray[np.bool_], dim: int, vectors_of: VectorsOf
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table ``negatives``: all candidates, so that another choice encodes nothing.

    Args:
        names: (P) the candidates.
        texts: (P) their texts.
        chosen: (P) which of them are unlike every category.
        dim: dimension D.
        vectors_of: gives their vectors.
    """
    for part in _slices(len(names)):
        columns = [
            [f"{number:08x}" for number in range(part.start, part.stop)],
            list(names[part]),
            pa.array(chosen[part]),
            _key_column(texts.keys[part]),
            _vector_column(vectors_of(texts, part)),
        ]
        yield _batch(columns, schema("negatives", dim))


def keys_and_vectors(
    store: TableStore, table: str, record: TableRecord, columns: tuple[str, str]
) -> Iterator[tuple[Keys, Matrix]]:
    """Yield (n) keys and (n, D) vectors of a version of a table, batch by batch, in stored order."""
    for batch in store.scan(table, record, columns):
        yield _keys(batch.column(columns[0])), _matrix(batch.column(columns[1]))


def owner_ids(store: TableStore, table: str, record: TableRecord) -> set[str]:
    """Return the category ids in the rows of ``descriptions`` or ``exemplars``."""
    batches = store.scan(table, record, ("category_id",))
    return {category_id for batch in batches for category_id in batch.column("category_id").to_pylist()}


class TableReader(Protocol):
    """Where rows are read from: `TableStore`, or the flat copy of its tables."""

    def scan(self, name: str, record: TableRecord, columns: Sequence[str], /) -> Iterator[pa.RecordBatch]:
        """Yield rows of a table in batches."""


def load_vectors(store: TableReader, tables: Mapping[str, TableRecord], dim: int) -> MemoryVectors:
    """Read the tables into arrays, sorted by category id and position.

    Raises:
        ValueError: a table has another number of rows than its record says.
    """
    categories = _read(store, tables, "categories", ("id", "name", "group", "metadata"), ("vector",), dim)
    descriptions = _read(
        store, tables, "descriptions", ("id", "category_id", "text", "kind", "source"), ("grounded", "bare"), dim
    )
    exemplars = _read(store, tables, "exemplars", ("id", "category_id", "reference", "sha256"), ("vector",), dim)
    negatives = _read(store, tables, "negatives", ("id", "name", "chosen"), ("vector",), dim)
    chosen = np.flatnonzero(negatives["chosen"])
    ids = categories["id"]
    offsets = _offsets(ids, descriptions["category_id"])
    exemplar_offsets = _offsets(ids, exemplars["category_id"])
    texts = [
        Description(*fields)
        for fields in zip(descriptions["text"], descriptions["kind"], descriptions["source"], strict=True)
    ]
    return MemoryVectors(
        categories=[
            _category(
                categories["name"][c],
                categories["group"][c],
                tuple(texts[offsets[c] : offsets[c + 1]]),
                categories["metadata"][c],
                tuple(exemplars["reference"][exemplar_offsets[c] : exemplar_offsets[c + 1]]),
            )
            for c in range(len(ids))
        ],
        names=categories["vector"],
        offsets=offsets,
        grounded=descriptions["grounded"],
        bare=descriptions["bare"],
        descriptions=descriptions["text"],
        exemplar_offsets=exemplar_offsets,
        exemplars=exemplars["vector"],
        exemplar_hashes=exemplars["sha256"],
        exemplar_references=exemplars["reference"],
        negatives=_read_only(negatives["vector"][chosen]),
        negative_names=[negatives["name"][row] for row in chosen],
    )


def load_bare_categories(store: TableReader, tables: Mapping[str, TableRecord]) -> list[Category]:
    """Read the categories without their descriptions, exemplars and vectors, sorted by id."""
    columns = _read(store, tables, "categories", ("id", "name", "group", "metadata"), (), 0)
    cells = zip(columns["name"], columns["group"], columns["metadata"], strict=True)
    return [_category(name, group, (), metadata, ()) for name, group, metadata in cells]


def _metadata_cell(category: Category) -> str:
    """Return metadata as a JSON object; with aliases, as the list of that object and the list of aliases.

    So memories without aliases, earlier ones among them, have the same cells as before aliases were stored.
    """
    metadata = dict(category.metadata)
    value = [metadata, list(category.aliases)] if category.aliases else metadata
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _category(
    name: str, group: str, descriptions: tuple[Description, ...], metadata_cell: str, exemplars: tuple[str, ...]
) -> Category:
    value = json.loads(metadata_cell)
    metadata, aliases = (value, []) if isinstance(value, dict) else value
    return Category(name, group, descriptions, metadata, exemplars, tuple(aliases))


def _read(
    store: TableReader,
    tables: Mapping[str, TableRecord],
    table: str,
    text_columns: Sequence[str],
    vector_columns: Sequence[str],
    dim: int,
) -> dict[str, Any]:
    """Return columns sorted by id: texts as lists, vectors as read-only (rows, dim) float32."""
    record = tables.get(table)
    rows = record.rows if record is not None else 0
    texts: dict[str, list[Any]] = {column: [] for column in text_columns}
    vectors = {column: np.empty((rows, dim), np.float32) for column in vector_columns}
    start = 0
    for batch in store.scan(table, record, (*text_columns, *vector_columns)) if record is not None else ():
        stop = start + batch.num_rows
        for column in text_columns:
            texts[column] += batch.column(column).to_pylist()
        for column in vector_columns:
            if stop <= rows:
                vectors[column][start:stop] = _matrix(batch.column(column))
        start = stop
    if start != rows:
        raise ValueError(f"the table {table!r} has {start} rows instead of {rows}")
    # Row ids begin with the category id and end with a number of fixed width, so this sorts by category and position.
    order = sorted(range(rows), key=texts["id"].__getitem__)
    if order != list(range(rows)):
        texts = {column: [values[i] for i in order] for column, values in texts.items()}
        vectors = {column: matrix[order] for column, matrix in vectors.items()}
    return {**texts, **{column: _read_only(matrix) for column, matrix in vectors.items()}}


def _read_only(matrix: Matrix) -> Matrix:
    matrix.setflags(write=False)
    return matrix


def _offsets(ids: Sequence[str], category_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return (C + 1) int64 where the rows of each of C sorted ids begin in a sorted column of category ids."""
    if not category_ids:
        return np.zeros(len(ids) + 1, np.int64)
    # "~" comes after every hexadecimal digit, so its place is the number of rows.
    starts = np.searchsorted(np.array(category_ids), np.array([*ids, "~"]), side="left")
    return starts.astype(np.int64)


def _row_id(category_id: str, number: int) -> str:
    return f"{category_id}-{number:08d}"


def _slices(rows: int) -> Iterator[slice]:
    for start in range(0, rows, BATCH_ROWS):
        yield slice(start, min(start + BATCH_ROWS, rows))


def _batch(columns: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _vector_column(vectors: Matrix) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(to_halves(vectors).reshape(-1)), vectors.shape[1])


def _key_column(keys: Keys) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys.tobytes())])


def _matrix(column: pa.Array) -> Matrix:
    """Return the vectors of a column.

    pyarrow's own ways are slow to start: the conversion loads pandas, and `flatten` loads `pyarrow.compute` (0.2 s).
    """
    values, width = column.values, column.type.list_size  # also those before and behind a slice
    dtype = np.dtype(np.float16 if values.type == pa.float16() else np.float32)  # float32 in memories of schema 1
    start = dtype.itemsize * (values.offset + column.offset * width)
    matrix = np.frombuffer(values.buffers()[1], dtype, len(column) * width, start).reshape(-1, width)
    return widened(to_halves(matrix))


def _keys(column: pa.Array) -> Keys:
    start = column.offset * KEY_BYTES
    return keys_from_bytes(memoryview(column.buffers()[1])[start : start + len(column) * KEY_BYTES])
