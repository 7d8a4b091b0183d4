"""Rows of the tables: their schema, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.columns import metadata_cell
from memory.halves import Halves, to_halves
from memory.manifest import TableRecord
from memory.store import BATCH_ROWS, TableStore
from memory.texts import KEY_BYTES, BuildTexts, Keys, TextGroups
from memory.vectors import ExemplarSet, Matrix

CATEGORY_TABLES = ("categories", "descriptions", "exemplars")
"""Those whose rows belong to categories."""
TABLES = (*CATEGORY_TABLES, "negatives")
VECTOR_COLUMNS = {
    "categories": (("key", "vector"),),
    "descriptions": (("grounded_key", "grounded"), ("bare_key", "bare")),
    "negatives": (("key", "vector"),),
}
"""By table, the pairs of a column of keys and a column of vectors; those of exemplars do not come from texts."""

VECTOR_NAMES = {
    "categories": ("vector",),
    "descriptions": ("grounded", "bare"),
    "exemplars": ("vector",),
    "negatives": ("vector",),
}
"""By table, its columns of vectors."""

OWNER_COLUMNS = {"categories": "id", "descriptions": "category_id", "exemplars": "category_id", "negatives": "id"}
"""By table, the column of hexadecimal ids by which readers sort it."""

FLAT_COLUMNS = {
    "categories": ("name", "group", "metadata", "key"),
    "descriptions": ("text", "kind", "source", "grounded_key", "bare_key"),
    "exemplars": ("reference", "sha256"),
    "negatives": ("name", "chosen", "key"),
}
"""By table, the other columns that readers and later builds need."""

VectorsOf = Callable[[TextGroups], Matrix]
"""Gives the (n, D) unit rows of n text groups."""


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


def flat_schema(table: str) -> pa.Schema:
    """Return the schema of a table in the flat copy: its id as a number, and all other columns but the vectors."""
    columns = schema(table, 1)
    return pa.schema([("id", pa.uint64()), *(columns.field(name) for name in FLAT_COLUMNS[table])])


def category_batches(texts: BuildTexts, dim: int, vectors_of: VectorsOf) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table ``categories``."""
    for categories, names in texts.names():
        columns = [
            [category.id for category in categories],
            [category.name for category in categories],
            [category.group for category in categories],
            [metadata_cell(category) for category in categories],
            _key_column(names.keys),
            _vector_column(vectors_of(names)),
        ]
        yield _batch(columns, schema("categories", dim))


def description_batches(texts: BuildTexts, dim: int, vectors_of: VectorsOf) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table ``descriptions``."""
    for rows, grounded, bare in texts.descriptions():
        ids = [category.id for category, _, _ in rows]
        columns = [
            [_row_id(category_id, number) for category_id, (_, number, _) in zip(ids, rows, strict=True)],
            ids,
            [description.text for _, _, description in rows],
            [description.kind for _, _, description in rows],
            [description.source for _, _, description in rows],
            _key_column(grounded.keys),
            _vector_column(vectors_of(grounded)),
            _key_column(bare.keys),
            _vector_column(vectors_of(bare)),
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
            _vector_column(vectors_of(TextGroups(texts.texts[part], texts.keys[part]))),
        ]
        yield _batch(columns, schema("negatives", dim))


def owner_ids(store: TableStore, table: str, record: TableRecord) -> set[str]:
    """Return the category ids in the rows of ``descriptions`` or ``exemplars``."""
    batches = store.scan(table, record, ("category_id",))
    return {category_id for batch in batches for category_id in batch.column("category_id").to_pylist()}


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


def _vector_column(vectors: NDArray[np.floating]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(to_halves(vectors).reshape(-1)), vectors.shape[1])


def _key_column(keys: Keys) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys.tobytes())])


def halves_of(column: pa.Array) -> Halves:
    """Return the (n, D) vectors of a column as fp16.

    pyarrow's own ways are slow to start: the conversion loads pandas, and `flatten` loads `pyarrow.compute` (0.2 s).
    """
    values, width = column.values, column.type.list_size  # also those before and behind a slice
    dtype = np.dtype(np.float16 if values.type == pa.float16() else np.float32)  # float32 in memories of schema 1
    start = dtype.itemsize * (values.offset + column.offset * width)
    return to_halves(np.frombuffer(values.buffers()[1], dtype, len(column) * width, start).reshape(-1, width))


def as_stored(batches: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield batches of a memory of schema 1, whose vectors are float32, in today's schema."""
    for batch in batches:
        arrays = [
            _vector_column(halves_of(batch.column(field.name)))
            if pa.types.is_fixed_size_list(field.type)
            else batch.column(field.name)
            for field in columns
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=columns)
