"""Approximate indexes of FAISS over the rows of a memory: a graph of near neighbours, and inverted lists.

What they return is scored exactly afterwards, so their own rounding (fp16, 8 bit) costs recall and nothing else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memory.index import FaissObject, RowSource, SearchIndex, check_queries, chunks
from memory.mapped import MappedBlocks
from memory.vectors import Matrix

# Up to this many rows the graph is built by one thread, so that the same rows give the same graph; with many threads it
# depends on their timing.
_DETERMINISTIC_ROWS = 50_000
# Links of a row in the graph: the usual high end, for vectors of 500 dimensions and more.
_LINKS = 32
# Breadth of the search while the graph is built. At 10,000 composed names and a breadth of search of 128, 200 proposes
# the winner of .995 of real pictures, and 40, FAISS's own, of .974; it takes 2.7 times as long.
_EF_CONSTRUCTION = 200
# Rows per centroid that k-means reads: FAISS warns below 39.
_TRAINING_ROWS = 48
_ROWS_PER_LIST_ROOT = 4  # lists = 4 sqrt(N), FAISS's own advice
# One row in so many lies in the list of rows that no centroid is near, which every search reads. At 100,000 composed
# names a quarter of the lists missed the winners of .8 % of real pictures: all were among these rows.
_ROWS_PER_FAR_ROW = 32
# fp16 above this size is 8 bit.
_FP16_BYTES = 2 * 2**30


@runtime_checkable
class StoredIndex(SearchIndex, Protocol):
    """An approximate index that can be stored.

    Attributes:
        kind: its name on the command line.
        effort: how wide it searches; the unit is that of the kind.
        most_effort: where widening ends.
    """

    kind: ClassVar[str]
    effort: int
    most_effort: int

    def save(self, path: Path) -> None:
        """Write it to a new file."""


class HnswIndex:
    """A graph of near neighbours (FAISS ``IndexHNSWSQ``, fp16): fastest, for memories that are mostly read.

    Args:
        index: FAISS's.
    """

    kind: ClassVar[str] = "hnsw"
    most_effort = 2048

    def __init__(self, index: FaissObject) -> None:
        """Keep a graph of ``build`` or ``load``."""
        self._index = index
        self.effort = 64

    @classmethod
    def build(cls, rows: RowSource) -> HnswIndex:
        """Build the graph over (N, D) rows; the same rows, up to 50,000, give the same graph."""
        faiss = _faiss()
        fp16 = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(rows.shape[1], fp16, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _EF_CONSTRUCTION
        graph = cls(index)
        graph.extend(rows)
        return graph

    @classmethod
    def load(cls, path: Path, blocks: MappedBlocks) -> HnswIndex:
        """Map an index that ``save`` wrote. All of it is checked, for any search may read any part of a graph.

        Raises:
            RuntimeError: FAISS cannot read it.
            DamagedBlock: the file has changed since it was written.
        """
        blocks.check()
        faiss = _faiss()
        return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

    @classmethod
    def editable(cls, path: Path, blocks: MappedBlocks) -> HnswIndex:
        """Read an index that ``save`` wrote, so that rows can be added.

        Raises:
            RuntimeError: FAISS cannot read it.
            DamagedBlock: the file has changed since it was written.
        """
        blocks.check()
        return cls(_faiss().read_index(str(path)))

    @property
    def size(self) -> int:
        """Number N of rows."""
        return int(self._index.ntotal)

    def extend(self, rows: RowSource, first: int = 0) -> None:
        """Append rows, whose numbers go on from N; `first` has to be N."""
        assert first == self.size
        with _one_thread() if self.size + rows.shape[0] <= _DETERMINISTIC_ROWS else contextlib.nullcontext():
            for _, chunk in chunks(rows):
                self._index.add(chunk)

    def save(self, path: Path) -> None:
        """Write the graph to a file."""
        _faiss().write_index(self._index, str(path))

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return near rows of each query; see ``SearchIndex.search``. Where the graph ends early, rows are -1."""
        queries, k = check_queries(queries, k, self.size, self._index.d)
        settings = _faiss().SearchParametersHNSW()
        settings.efSearch = max(self.effort, k)
        with _one_thread():
            scores, rows = self._index.search(queries, k, params=settings)
        return scores, rows


class IvfIndex:
    """Inverted lists around centroids (FAISS ``IndexIVFScalarQuantizer``): rows can be removed, and lists stay on disk.

    Rows that no centroid is near are the best of queries that are near none of their own; the last list has them, under
    a centroid of zeros, and every search reads it.

    Args:
        index: FAISS's.
        blocks: of the file that its lists are mapped from, checked as lists are read; None: it is in RAM.
    """

    kind: ClassVar[str] = "ivf"

    def __init__(self, index: FaissObject, blocks: MappedBlocks | None = None) -> None:
        """Keep lists of ``build`` or ``load``."""
        self._index, self._blocks = index, blocks
        self._far = index.nlist - 1
        # Beyond half of the lists it is no faster than comparing all rows.
        self.most_effort = max(self._far // 2, min(self._far, 16))
        self.effort = max(self._far // 32, min(self._far, 4))
        self._places = np.zeros((0, 2), np.int64) if blocks is None else _list_places(index)
        self._checked = np.zeros(len(self._places), np.bool_)

    @classmethod
    def build(cls, rows: RowSource) -> IvfIndex:
        """Find centroids on a sample of (N, D) rows, and sort all rows into their lists."""
        faiss = _faiss()
        number, width = rows.shape
        lists = max(1, min(_ROWS_PER_LIST_ROOT * math.isqrt(number), number // _TRAINING_ROWS))
        kind = faiss.ScalarQuantizer.QT_fp16 if 2 * number * width <= _FP16_BYTES else faiss.ScalarQuantizer.QT_8bit
        metric = faiss.METRIC_INNER_PRODUCT
        centroids = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFScalarQuantizer(centroids, width, lists + 1, kind, metric)
        index.cp.min_points_per_centroid = 1
        index.train(sample(rows, _TRAINING_ROWS * lists))
        near = centroids.reconstruct_n(0, lists)
        centroids.reset()
        centroids.add(np.concatenate([near, np.zeros((1, width), np.float32)]))
        inverted = cls(index)
        inverted.extend(rows)
        return inverted

    @classmethod
    def load(cls, path: Path, blocks: MappedBlocks) -> IvfIndex:
        """Map an index that ``save`` wrote; only its centroids are read.

        Raises:
            RuntimeError: FAISS cannot read it.
            DamagedBlock: its centroids have changed.
        """
        faiss = _faiss()
        index = cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP), blocks)
        # Beside the lists the file has a head with the centroids, and a tail.
        blocks.check(0, int(index._places[:, 0].min(initial=0)))
        blocks.check(int(index._places[:, 1].max(initial=0)))
        return index

    @classmethod
    def editable(cls, path: Path, blocks: MappedBlocks) -> IvfIndex:
        """Read an index that ``save`` wrote, so that rows can be added and removed; errors as for ``load``."""
        blocks.check()
        return cls(_faiss().read_index(str(path)))

    @property
    def size(self) -> int:
        """Number N of rows."""
        return int(self._index.ntotal)

    def extend(self, rows: RowSource, first: int = 0) -> None:
        """Add rows under numbers from `first` on."""
        pointer = _faiss().swig_ptr
        for start, chunk in chunks(rows):
            nearness, lists = self._index.quantizer.search(chunk, 1)
            farthest = np.argsort(nearness[:, 0], kind="stable")[: -(-len(chunk) // _ROWS_PER_FAR_ROW)]
            lists[farthest] = self._far
            numbers = np.arange(first + start, first + start + len(chunk))
            self._index.add_core(len(chunk), pointer(chunk), pointer(numbers), pointer(lists))

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Remove rows by their numbers."""
        self._index.remove_ids(rows)

    def save(self, path: Path) -> None:
        """Write centroids and lists to a file."""
        _faiss().write_index(self._index, str(path))

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return near rows of each query; see ``SearchIndex.search``. Where lists hold fewer than k rows, rows are -1.

        Raises:
            DamagedBlock: the file has changed since it was written.
        """
        queries, k = check_queries(queries, k, self.size, self._index.d)
        near = min(self.effort, self._far)
        self._index.nprobe = near + 1
        with _one_thread():
            nearness, lists = self._index.quantizer.search(queries, near + 1)
        nearest = np.argsort(lists == self._far, axis=1, kind="stable")[:, :near]  # in their order, without the far one
        nearness = np.pad(np.take_along_axis(nearness, nearest, axis=1), ((0, 0), (0, 1)))
        lists = np.pad(np.take_along_axis(lists, nearest, axis=1), ((0, 0), (0, 1)), constant_values=self._far)
        if self._blocks is not None:
            read = np.unique(lists[lists >= 0])
            for number in read[~self._checked[read]]:
                self._blocks.check(*self._places[number].tolist())
            self._checked[read] = True
        with _one_thread():
            scores, rows = self._index.search_preassigned(queries, k, lists, nearness)
        return scores, rows


def sample(rows: RowSource, number: int, *, seed: int = 0) -> Matrix:
    """Return up to `number` rows (n, D) float32 from all over a source, ascending; the same for the same source.

    Runs of 64 neighbours are read, for rows of a large memory lie on the disk.
    """
    total, run = rows.shape[0], 64
    if number >= total:
        return np.concatenate([np.zeros((0, rows.shape[1]), np.float32), *(chunk for _, chunk in chunks(rows))])
    runs = np.random.default_rng(seed).permutation(-(-total // run))[: -(-number // run)]
    return np.concatenate([rows[start : start + run] for start in (np.sort(runs) * run).tolist()])[:number]


def _list_places(index: FaissObject) -> NDArray[np.int64]:
    """Return (lists, 2) int64 first byte of each list in its file, and that behind it."""
    stored = _faiss().downcast_InvertedLists(index.invlists)
    places = [(one.offset, one.capacity) for one in (stored.lists.at(number) for number in range(index.nlist))]
    array = np.array(places, np.int64).reshape(-1, 2)
    array[:, 1] = array[:, 0] + array[:, 1] * (stored.code_size + np.dtype(np.int64).itemsize)
    return array


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let FAISS work on the thread that asks: whoever has many images shares them out, and no thread waits for others.

    With two threads for the five regions of an image, and other programs beside them, a search took 8 times as long.
    """
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _faiss() -> FaissObject:
    """Return the module without its types, which lack parts that are used here."""
    import faiss

    return faiss
