"""Search for the rows with the greatest inner product: exact, on CPU or GPU, and approximate.

The metric is not the cosine: folded category vectors, weighted sums of name and descriptions, have no unit length.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory.durable import FileRecord, record_file, replacing
from memory.vectors import ROWS_AT_A_TIME, Matrix, VectorRows

FaissObject: TypeAlias = Any
"""An object of FAISS, whose types are incomplete."""

# Rows that are multiplied at a time: 16 MiB of products for 64 queries, however large the memory is.
CHUNK_ROWS = 65_536
# Multiplications up to which a product counts as small: OpenBLAS draws the line at 10^6.
_SMALL_PRODUCT = 2**20
# Rows that a kernel computes together; a remainder may round differently.
_ROW_STEP = 16
# FAISS on the GPU selects at most 2,048 rows, and gets slow before; larger searches are done on the CPU.
_GPU_MAX_K = 1024
# Up to this many rows the graph is built by one thread, so that the same rows give the same graph; with many threads it
# depends on their timing.
_DETERMINISTIC_ROWS = 50_000
# Links of a row in the graph, and breadth of the search while it is built: the usual high end, for vectors of 500 to
# 1,000 dimensions.
_LINKS = 32
_EF_CONSTRUCTION = 200
# Breadth of the search. At 20,000 categories it found all of the 5 best (`tests/benchmarks/scoring.py --hnsw`).
EF_SEARCH = 128


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
        vectors: (N, D) float32; not copied.
    """

    def __init__(self, vectors: Matrix) -> None:
        """Keep the rows, and copy them to the GPU where there is one."""
        self._vectors = vectors
        self._gpu = _GpuRows(vectors) if len(vectors) and gpu_count() else None

    @property
    def size(self) -> int:
        """Number N of rows."""
        return len(self._vectors)

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return the best rows of each query; see ``SearchIndex.search``."""
        queries, k = _check(queries, k, *self._vectors.shape)
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
        for start in range(0, self.size, CHUNK_ROWS):
            products = queries @ self._vectors[start : start + CHUNK_ROWS].T
            best = best_columns(products, k)
            scores = np.concatenate((scores, np.take_along_axis(products, best, axis=1)), axis=1)
            rows = np.concatenate((rows, best + start), axis=1)
            if start:
                scores, rows = _in_order(scores, rows)
                scores, rows = scores[:, :k], rows[:, :k]
        return scores, rows


class HnswIndex:
    """Approximate search in a graph of near neighbours (FAISS HNSW).

    Args:
        index: a FAISS ``IndexHNSWFlat`` with the inner product.
        ef_search: breadth of the search; at least k is used.
    """

    def __init__(self, index: FaissObject, *, ef_search: int = EF_SEARCH) -> None:
        """Keep a graph of ``build`` or ``load``."""
        self._index = index
        self._ef_search = ef_search

    @classmethod
    def build(cls, vectors: Matrix, *, ef_search: int = EF_SEARCH) -> HnswIndex:
        """Build the graph over (N, D) float32 rows; the same rows, up to 50,000, give the same graph."""
        import faiss

        index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _EF_CONSTRUCTION
        threads = faiss.omp_get_max_threads()
        if len(vectors) <= _DETERMINISTIC_ROWS:
            faiss.omp_set_num_threads(1)
        try:
            index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        finally:
            faiss.omp_set_num_threads(threads)
        return cls(index, ef_search=ef_search)

    @classmethod
    def load(cls, path: Path, record: FileRecord, *, ef_search: int = EF_SEARCH) -> HnswIndex | None:
        """Read an index that ``save`` wrote; None when the file is missing or differs from its record."""
        if not path.is_file() or path.stat().st_size != record.size or record_file(path) != record:
            return None
        import faiss

        # FAISS refuses to allocate more than 1 TiB by default; a valid index needs about the size of its file.
        limit = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(4 * record.size)
        try:
            index = faiss.deserialize_index(np.fromfile(path, np.uint8))
        except RuntimeError:
            return None
        finally:
            faiss.set_deserialization_vector_byte_limit(limit)
        return cls(index, ef_search=ef_search)

    def save(self, path: Path) -> FileRecord:
        """Write this index to a file in one step, and return the file's size and hash."""
        import faiss

        with replacing(path) as draft:
            draft.write_bytes(faiss.serialize_index(self._index).tobytes())
            return record_file(draft)

    @property
    def size(self) -> int:
        """Number N of rows."""
        return int(self._index.ntotal)

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return near rows of each query; see ``SearchIndex.search``.

        A query that reaches fewer than k rows of the graph is searched exactly.
        """
        queries, k = _check(queries, k, self.size, self._index.d)
        if not k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        settings = _faiss().SearchParametersHNSW()
        settings.efSearch = max(self._ef_search, k)
        scores, rows = self._index.search(queries, k, params=settings)
        short = (rows < 0).any(axis=1)
        if short.any():
            scores[short], rows[short] = ExactIndex(self._vectors()).search(queries[short], k)
        return _in_order(scores, rows)

    def _vectors(self) -> Matrix:
        """Return the (N, D) rows as a view of the storage in the index."""
        storage = _faiss().downcast_index(self._index.storage)
        flat: Matrix = _faiss().rev_swig_ptr(storage.get_xb(), self.size * self._index.d)
        return flat.reshape(self.size, self._index.d)


class _GpuRows:
    """A copy of the rows on the first GPU."""

    def __init__(self, vectors: Matrix) -> None:
        """Copy the rows to the GPU."""
        import faiss

        self._resources = faiss.StandardGpuResources()
        self._index = faiss.GpuIndexFlatIP(self._resources, vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return (Q, k) products and rows, best first, equal products in any order."""
        scores, rows = self._index.search(queries, k)
        return scores, rows


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


def recall_at_k(approximate: SearchIndex, exact: SearchIndex, queries: Matrix, k: int = 10) -> float:
    """Return which share of the k best rows an approximate search finds, in [0, 1].

    A row is right when its product reaches the exact k-th best one, so that rows of equal products count as equal.
    Without rows or queries the recall is 1.
    """
    reached, _ = approximate.search(queries, k)
    best, _ = exact.search(queries, k)
    if not best.size:
        return 1.0
    # Products of float32 that are computed in another order differ by up to 1e-6.
    return float((reached >= best[:, -1:] - 1e-6).mean())


@cache
def gpu_count() -> int:
    """Return how many GPUs FAISS can use; 0 when it was compiled without GPU support."""
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def _faiss() -> FaissObject:
    """Return the module without its types, which lack parts that are used here."""
    import faiss

    return faiss


def _check(queries: Matrix, k: int, size: int, dim: int) -> tuple[Matrix, int]:
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
