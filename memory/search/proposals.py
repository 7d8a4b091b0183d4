"""What a memory is searched with: an index over most of its categories, and a short list of those added since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from memory.index import ExactIndex, SearchIndex, inner_products
from memory.search.fold import Fold, JointRows
from memory.vectors import Matrix, MemoryVectors

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryIndex:
    """Proposes categories for images.

    Attributes:
        kind: "exact", "hnsw", "ivf" or "lance"; "gpu" for one whose rows lie there.
        fold: of the rows.
        main: over slots; a slot holds the row of one category.
        owners: (S,) int64 category of each slot, -1 for one that has been removed or replaced.
        tail_owners: (T,) int64 categories that no slot holds.
        tail: (T, W) float32 their rows, which are all compared.
        depth: how many proposals per region were enough when this was measured; 0: that was not measured.
        figures: what was measured, such as the recall of the search; empty for exact search.
    """

    kind: str
    fold: Fold
    main: SearchIndex
    owners: Rows
    tail_owners: Rows
    tail: Matrix
    depth: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number C of categories."""
        return int((self.owners >= 0).sum()) + len(self.tail_owners)

    @property
    def is_on_gpu(self) -> bool:
        """Whether many images are searched for at once, and not each on a core of its own."""
        return self.kind == "gpu"

    def propose(self, images: Matrix, regions: Sequence[Matrix], k: int) -> list[Rows]:
        """Return the categories whose exact scores are worth computing.

        Args:
            images: (B, D) float32.
            regions: per image (Q_i, D), Q_i >= 1.
            k: how many per region; at least 1.

        Returns:
            Per image (n,) ascending rows of categories: the nearest k of each of its regions, seen with the image.

        Raises:
            DamagedBlock: the file of the index has changed since it was written.
        """
        if k >= self.size:
            return [np.arange(self.size)] * len(images)
        queries, stops = self.fold.queries(images, regions)
        if self.is_on_gpu:
            found = np.split(self.search(queries, k)[1], stops[1:-1])
        else:
            # Image by image: FAISS rounds products of many queries otherwise than those of few, and what an image gets
            # must not depend on others. (Vectors that a GPU encoded do so already.)
            found = [self.search(queries[a:b], k)[1] for a, b in pairwise(stops)]
        return [np.unique(rows[rows >= 0]) for rows in found]

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, Rows]:
        """Return the best categories of queries of `Fold.queries`.

        Args:
            queries: (Q, W) float32.
            k: how many, at least 1.

        Returns:
            Products (Q, k') float32 and categories (Q, k') int64 with k' = min(k, C), best first; where the index ends
            early, -inf and -1.
        """
        k = min(k, self.size)
        scores, owners = self._live(queries, k)
        scores = np.concatenate([scores, inner_products(queries, self.tail)], axis=1)
        owners = np.concatenate([owners, np.broadcast_to(self.tail_owners, (len(queries), len(self.tail)))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(owners, order, axis=1)

    def _live(self, queries: Matrix, k: int) -> tuple[Matrix, Rows]:
        """Search the slots deeper until k of them are not removed: whole families of categories go at once."""
        wanted = k
        while True:
            if not self.main.size:
                return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
            scores, slots = self.main.search(queries, wanted)
            owners = np.where(slots >= 0, self.owners[slots], -1)
            short = ((owners >= 0).sum(axis=1) < k) & ((owners < 0) & (slots >= 0)).any(axis=1)
            if not short.any() or wanted >= self.main.size:
                return np.where(owners >= 0, scores, -np.inf).astype(np.float32), owners
            wanted = min(4 * wanted, self.main.size)


def exact_index(vectors: MemoryVectors, fold: Fold) -> MemoryIndex:
    """Return a search that compares all categories."""
    return whole_index("exact", ExactIndex(JointRows(vectors, fold)), vectors, fold)


def whole_index(kind: str, main: SearchIndex, vectors: MemoryVectors, fold: Fold) -> MemoryIndex:
    """Return an index whose slots are the rows of all categories, in their order."""
    rows = JointRows(vectors, fold)
    nothing = np.zeros(0, np.int64)
    return MemoryIndex(kind, fold, main, np.arange(rows.shape[0]), nothing, rows.take(nothing))
