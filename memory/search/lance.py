"""LanceDB's own index over the rows of a memory, for rows that do not fit in RAM: they stay on the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.index import FaissObject, RowSource, check_queries, chunks
from memory.vectors import Matrix

_TABLE = "rows"
# Rows per list that LanceDB advises.
_LIST_ROWS = 4096
# LanceDB cannot train product codes on fewer rows; so few are compared one by one.
_LEAST_ROWS = 512
# Product codes alone find .734 of the best 10; with 5 times as many rows compared exactly, all. So this many times k
# rows are compared, at first and at most.
_LEAST_REFINED, _MOST_REFINED = 8, 256
# Lists that are read, times the rows that are compared.
_LISTS_PER_REFINED = 4


class LanceIndex:
    """LanceDB's ``IvfPq`` over inner products, refined with the rows on the disk.

    Its files are checked by `verify`, not block by block: LanceDB reads them itself.

    Args:
        folder: the database.
    """

    kind: ClassVar[str] = "lance"

    def __init__(self, folder: Path) -> None:
        """Open a database that ``build`` wrote.

        Raises:
            RuntimeError, ValueError: it cannot be opened.
        """
        import lancedb

        self._table: FaissObject = lancedb.connect(folder).open_table(_TABLE)
        self._size = int(self._table.count_rows())
        self._width = int(self._table.schema.field("vector").type.list_size)
        self.effort, self.most_effort = _LEAST_REFINED, _MOST_REFINED

    @classmethod
    def build(cls, rows: RowSource, folder: Path) -> LanceIndex:
        """Write (N, D) rows as fp16 to a new database in a folder, and index them."""
        import lancedb
        from lancedb.index import IvfPq

        number, width = rows.shape
        schema = pa.schema({"slot": pa.int64(), "vector": pa.list_(pa.float16(), width)})
        table = lancedb.connect(folder).create_table(_TABLE, _batches(rows, schema), schema=schema)
        if number >= _LEAST_ROWS:
            codes = next(size for size in (8, 4, 2, 1) if width % size == 0)
            table.create_index(
                "vector",
                config=IvfPq(distance_type="dot", num_partitions=_lists(number), num_sub_vectors=width // codes),
            )
        return cls(folder)

    @property
    def size(self) -> int:
        """Number N of rows."""
        return self._size

    def save(self, path: Path) -> None:
        """Do nothing: its files are where it was built, which is this path."""

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return near rows of each query; see ``SearchIndex.search``. Where it finds fewer, rows are -1."""
        queries, k = check_queries(queries, k, self.size, self._width)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        for place, query in enumerate(queries):
            search = self._table.search(query, vector_column_name="vector").distance_type("dot")
            wide = search.nprobes(_LISTS_PER_REFINED * self.effort).refine_factor(self.effort)
            found = wide.limit(k).select(["slot", "_distance"]).to_arrow()
            scores[place, : len(found)] = 1 - found.column("_distance").to_numpy()
            rows[place, : len(found)] = found.column("slot").to_numpy()
        return scores, rows


def _batches(rows: RowSource, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start, chunk in chunks(rows):
        flat = pa.array(chunk.astype(np.float16).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, chunk.shape[1])
        yield pa.record_batch([pa.array(np.arange(start, start + len(chunk))), vectors], schema=schema)


def _lists(number: int) -> int:
    return max(1, min(number // _LIST_ROWS, 4 * math.isqrt(number)))
