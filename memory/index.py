"""Search for the rows with the greatest inner product: exact, on CPU or GPU.

The metric is not the cosine: folded category vectors, weighted sums of name and descriptions, have no unit length.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory.vectors import ROWS_AT_A_TIME, Matrix, VectorRows

FaissObject: TypeAlias = Any
"""An object of FAISS, whose types are incomplete."""

# Rows that are read and multiplied at a time: 64 MiB of float32 at 1,024 dimensions, however large the memory is.
CHUNK_ROWS = 16_384
# Multiplications up to which a product counts as small: OpenBLAS draws the line at 10^6.
_SMALL_PRODUCT = 2**20
# Rows that a kernel computes together; a remainder may round differently.
_ROW_STEP = 16
# FAISS on the GPU selects at most 2,048 rows, and gets slow before; larger searches are done on the CPU.
_GPU_MAX_K = 1024


class RowSource(Protocol):
    """N rows of D numbers that are read in slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        """Return some rows."""


class SearchIndex(Protocol):
    """N vectors that can be searched."""

    @property
    def size(self) -> int:
        """Number N of rows."""

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return the best rows of each query.

        Args:
            queries: (Q, D) finite float32.
            k: how many rows, at least 1.

        Returns:
            Inner products (Q, k') float32 and rows (Q, k') int64 with k' = min(k, N), best first; of equal products
            the lower row comes first.

        Raises:
            ValueError: queries of another shape, or not finite; k below 1.
        """


class ExactIndex:
    """Search that compares every row.

    Args:
        vectors: (N, D); read in chunks at each search, not copied.
    """

    def __init__(self, vectors: RowSource) -> None:
        """Keep the rows, and copy them to the GPU where there is one."""
        self._vectors = vectors
        self._gpu = _GpuRows(vectors) if self.size and gpu_count() else None

    @property
    def size(self) -> int:
        """Number N of rows."""
        return self._vectors.shape[0]

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return the best rows of each query; see ``SearchIndex.search``."""
        queries, k = check_queries(queries, k, self.size, self._vectors.shape[1])
        if self._gpu is None or k >= min(_GPU_MAX_K, self.size):
            return self._search_chunks(queries, k)
        # The GPU breaks ties in any order. One more row than wanted shows whether a tie crosses the end of the list;
        # those queries are searched again on the CPU.
        scores, rows = self._gpu.search(queries, k + 1)
        scores, rows = _in_order(scores, rows)
        tied = scores[:, k - 1] == scores[:, k]
        scores, rows = scores[:, :k], rows[:, :k]
        if tied.any():
            scores[tied], rows[tied] = self._search_chunks(queries[tied], k)
        return scores, rows

    def _search_chunks(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        scores = np.empty((len(queries), 0), np.float32)
        rows = np.empty((len(queries), 0), np.int64)
        for start, chunk in chunks(self._vectors):
            products = queries @ chunk.T
            best = best_columns(products, k)
            scores = np.concatenate((scores, np.take_along_axis(products, best, axis=1)), axis=1)
            rows = np.concatenate((rows, best + start), axis=1)
            if start:
                scores, rows = _in_order(scores, rows)
                scores, rows = scores[:, :k], rows[:, :k]
        return scores, rows


class _GpuRows:
    """A copy of the rows on the first GPU."""

    def __init__(self, vectors: RowSource) -> None:
        """Copy the rows to the GPU."""
        import faiss

        self._resources = faiss.StandardGpuResources()
        self._index = faiss.GpuIndexFlatIP(self._resources, vectors.shape[1])
        for _, chunk in chunks(vectors):
            self._index.add(chunk)

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return (Q, k) products and rows, best first, equal products in any order."""
        scores, rows = self._index.search(queries, k)
        return scores, rows


def chunks(rows: RowSource) -> Iterator[tuple[int, Matrix]]:
    """Yield the first row and the (n, D) float32 rows of each part of a source."""
    for start in range(0, rows.shape[0], CHUNK_ROWS):
        yield start, np.ascontiguousarray(rows[start : start + CHUNK_ROWS], np.float32)


def inner_products(queries: Matrix, vectors: VectorRows) -> Matrix:
    """Return (Q, N) float32 products of (Q, D) queries and (N, D) vectors, computed on the CPU.

    A GPU would have to be sent both and to return all products: an H200 was slower than 16 cores of its machine at
    every size, 1.5 times at 1,600 x 100,000 x 512.

    A row is the same bits whatever the other queries are. Rows of zeros see to that: libraries of linear
    algebra compute one row, and small products, with kernels of their own, which round differently.

    Vectors that are read from a file become float32 part by part.
    """
    if not isinstance(vectors, np.ndarray):
        products = np.empty((len(queries), len(vectors)), np.float32)
        for start in range(0, len(vectors), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            products[:, part] = inner_products(queries, vectors[part])
        return products
    number, (columns, dim) = len(queries), vectors.shape
    rows = max(number, _SMALL_PRODUCT // max(columns * dim, 1) + 1)
    rows += -rows % _ROW_STEP
    if rows > number and vectors.size:
        queries = np.concatenate([queries, np.zeros((rows - number, dim), np.float32)])
    return (queries @ vectors.T)[:number]


def best_columns(products: Matrix, k: int) -> NDArray[np.int64]:
    """Return the columns of the k largest values in each row, best first; of equal values the lower column is first.

    Args:
        products: (Q, N) float32.
        k: how many; capped at N.

    Returns:
        (Q, min(k, N)) int64.
    """
    k = min(k, products.shape[1])
    columns = np.empty((len(products), k), np.int64)
    if not k:
        return columns
    # A partial sort finds the k-th largest value; only values that reach it are sorted, ties included.
    bounds = np.partition(products, -k, axis=1)[:, -k]
    for row, (values, bound) in enumerate(zip(products, bounds, strict=True)):
        candidates = np.flatnonzero(values >= bound)
        columns[row] = candidates[np.argsort(-values[candidates], kind="stable")[:k]]
    return columns


def recall_at_k(reached: Matrix, best: Matrix) -> float:
    """Return which share of the best rows an approximate search finds, in [0, 1].

    A row is right when its product reaches the exact k-th best one, so that rows of equal products count as equal.
    Without rows or queries the recall is 1.

    Args:
        reached: (Q, k) exact products of the rows that it found, in any order; -inf for none.
        best: (Q, k) the k best products, best first.
    """
    if not best.size:
        return 1.0
    # Products of float32 that are computed in another order differ by up to 1e-6.
    return float((reached >= best[:, -1:] - 1e-6).mean())


@cache
def gpu_count() -> int:
    """Return how many GPUs FAISS can use; 0 when it was compiled without GPU support."""
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def check_queries(queries: Matrix, k: int, size: int, dim: int) -> tuple[Matrix, int]:
    """Return (Q, dim) queries as C-contiguous float32, and min(k, size); errors as for `SearchIndex.search`."""
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries have shape {queries.shape}; (Q, {dim}) is expected")
    if not np.isfinite(queries).all():
        raise ValueError("a query holds NaN or infinity; look for it in the image encoder")
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 is expected")
    return queries, min(k, size)


def _in_order(scores: Matrix, rows: NDArray[np.int64]) -> tuple[Matrix, NDArray[np.int64]]:
    """Sort each query's hits: best first, lower rows first among equal scores."""
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
