"""One row per category for search, whose product with an image and one of its regions is nearly the score.

For image vector g and region r the score of a category is <g, u> + max over regions of what the region is like, name by
name and description by description. Taking the maximum over regions last, of the sum, gives max_r (<g, u> + <r, b>)
with u = w_1 name + w_2 mean of the grounded descriptions and b = w_3 name + w_4 mean of the bare descriptions: a lower
bound of the score, and exact where one region is the best for all texts of the category. So each region is searched
together with its image: the query is [g, r], the row [u, b].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memory.index import chunks
from memory.vectors import Matrix, MemoryVectors, mean_by_category, rows_between


@dataclass(frozen=True, slots=True)
class Fold:
    """How the name and the descriptions of a category become the one row that search compares with.

    Attributes:
        name: weight of the name against the image.
        description: weight of the mean of the grounded descriptions against the image.
        region_name: weight of the name against a region.
        region_description: weight of the mean of the bare descriptions against a region.
    """

    name: float = 0.5
    description: float = 0.5
    region_name: float = 0.0
    region_description: float = 0.0

    @property
    def key(self) -> str:
        """Names the fold in stored indexes; an index of another key has other rows."""
        regions = f" region_name={self.region_name:.6f} region_description={self.region_description:.6f}"
        return f"name={self.name:.6f} description={self.description:.6f}{regions}"

    @property
    def has_regions(self) -> bool:
        """Whether regions count."""
        return bool(self.region_name or self.region_description)

    def rows(self, vectors: MemoryVectors) -> Matrix:
        """Return the (C, D) float32 rows u of the image, which are not unit rows; names stand in for descriptions."""
        rows = np.empty(vectors.names.shape, np.float32)
        for start, chunk in chunks(JointRows(vectors, replace(self, region_name=0.0, region_description=0.0))):
            rows[start : start + len(chunk)] = chunk
        return rows

    def queries(self, images: Matrix, regions: Sequence[Matrix]) -> tuple[Matrix, NDArray[np.int64]]:
        """Return what is looked for in `JointRows`.

        Args:
            images: (B, D) float32.
            regions: per image (Q_i, D), Q_i >= 1; not read where regions do not count.

        Returns:
            (sum Q_i, 2 D) float32, or (B, D) where regions do not count, and (B + 1) int64: the queries of image i are
            the rows from the i-th of these numbers to before the next.
        """
        if not self.has_regions:
            return np.ascontiguousarray(images, np.float32), np.arange(len(images) + 1)
        counts = [len(own) for own in regions]
        sides = (np.repeat(images, counts, axis=0), np.concatenate([np.zeros((0, images.shape[1])), *regions]))
        return np.concatenate(sides, axis=1, dtype=np.float32), np.cumsum([0, *counts])


class JointRows:
    """The rows [u, b] of all categories, computed when they are read; [u] alone where regions do not count.

    Args:
        vectors: of the memory.
        fold: the weights.
    """

    def __init__(self, vectors: MemoryVectors, fold: Fold) -> None:
        """Keep both; nothing is computed."""
        self._vectors, self._fold = vectors, fold

    @property
    def shape(self) -> tuple[int, int]:
        """(C, 2 D), or (C, D)."""
        number, dim = self._vectors.names.shape
        return number, dim * (2 if self._fold.has_regions else 1)

    def __getitem__(self, rows: slice) -> Matrix:
        """Return (n, 2 D) float32 rows of neighbouring categories, which are not unit rows."""
        start, stop, _ = rows.indices(len(self._vectors.names))
        offsets = self._vectors.offsets[start : stop + 1]
        return self._joined(slice(start, stop), slice(int(offsets[0]), int(offsets[-1])), offsets - offsets[0])

    def take(self, rows: NDArray[np.int64]) -> Matrix:
        """Return (n, 2 D) float32 rows of some categories."""
        descriptions, offsets = rows_between(self._vectors.offsets, rows)
        return self._joined(rows, descriptions, offsets)

    def _joined(
        self, rows: slice | NDArray[np.int64], descriptions: slice | NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> Matrix:
        fold, names = self._fold, self._vectors.names[rows]
        image = _weighed(names, self._vectors.grounded[descriptions], offsets, fold.name, fold.description)
        if not fold.has_regions:
            return image
        bare = self._vectors.bare[descriptions]
        region = _weighed(names, bare, offsets, fold.region_name, fold.region_description)
        return np.concatenate((image, region), axis=1)


def _weighed(
    names: NDArray[np.floating],
    descriptions: NDArray[np.floating],
    offsets: NDArray[np.int64],
    of_name: float,
    of_description: float,
) -> Matrix:
    """Return (n, D) float32 weighted sums of names and of the means of their descriptions."""
    names = np.asarray(names, np.float32)
    means = mean_by_category(np.asarray(descriptions, np.float32), offsets, names)
    rows: Matrix = np.ascontiguousarray(of_name * names + of_description * means, np.float32)
    return rows
