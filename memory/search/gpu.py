"""Search on the GPU, built from the rows when a memory is opened: a copy there costs a second, and needs no file.

All rows are compared. FAISS's graph for GPUs, CAGRA, is not used: over a million rows of 1,024 numbers on an H100 it
takes 11 to 48 s to build at each opening and finds .84 to 1.00 of the ten nearest and .51 to .86 of the nearest 256
(`tests/benchmarks/gpu.py`), where comparing all takes 5 ms for the six queries of an image, 0.4 ms in a batch.
"""

from __future__ import annotations

from threading import Lock
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from memory.index import FaissObject, RowSource, check_queries, chunks
from memory.vectors import Matrix

# FAISS on the GPU selects at most so many rows.
_MOST_FOUND = 2048


class GpuIndex:
    """All rows as fp16 on the first GPU.

    Args:
        rows: (N, D).

    Raises:
        RuntimeError: the GPU has no room for them.
    """

    kind: ClassVar[str] = "gpu"

    def __init__(self, rows: RowSource) -> None:
        """Copy the rows to the GPU."""
        import faiss

        self._size, self._width = rows.shape
        self._turn = Lock()
        self._resources = faiss.StandardGpuResources()
        flat = faiss.GpuIndexFlatConfig()
        flat.useFloat16 = True
        self._index: FaissObject = faiss.GpuIndexFlatIP(self._resources, self._width, flat)
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
