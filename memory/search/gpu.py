"""Search on the GPU, built from the rows when a memory is opened: a copy there costs seconds, and needs no file."""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from memory.index import FaissObject, RowSource, check_queries, chunks
from memory.vectors import Matrix

# From this many rows on a graph is searched where FAISS has CAGRA; below, comparing all rows takes a GPU milliseconds.
# Not measured here: it is where FAISS's own documentation sees the graph pay.
CAGRA_ROWS = 1_000_000
# FAISS on the GPU selects at most so many rows.
_MOST_FOUND = 2048


class GpuIndex:
    """All rows as fp16 on the first GPU, or a CAGRA graph of them.

    Args:
        rows: (N, D).

    Raises:
        RuntimeError: the GPU has no room for them.
    """

    kind: ClassVar[str] = "gpu"

    def __init__(self, rows: RowSource) -> None:
        """Copy the rows to the GPU."""
        faiss = import_module("faiss")  # whose types lack CAGRA
        self._size, self._width = rows.shape
        self._turn = Lock()
        self._resources = faiss.StandardGpuResources()
        self._index: FaissObject
        if self._size >= CAGRA_ROWS and hasattr(faiss, "GpuIndexCagra"):
            settings = faiss.GpuIndexCagraConfig()
            self._index = faiss.GpuIndexCagra(self._resources, self._width, faiss.METRIC_INNER_PRODUCT, settings)
            self._index.train(np.concatenate([chunk for _, chunk in chunks(rows)]))
        else:
            flat = faiss.GpuIndexFlatConfig()
            flat.useFloat16 = True
            self._index = faiss.GpuIndexFlatIP(self._resources, self._width, flat)
            for _, chunk in chunks(rows):
                self._index.add(chunk)

    @property
    def size(self) -> int:
        """Number N of rows."""
        return self._size

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return near rows of each query, at most 2,048; see ``SearchIndex.search``."""
        queries, k = check_queries(queries, min(k, _MOST_FOUND), self._size, self._width)
        with self._turn:  # FAISS has one stream and one scratch memory for all threads
            scores, rows = self._index.search(queries, k)
        return scores, rows
