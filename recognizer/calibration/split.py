"""Two halves of the labelled images, one to fit on and one to report on, that share no copies of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from memory.index import inner_products
from recognizer.calibration.terms import UNKNOWN, Rows
from recognizer.images import ImageItem

COPY_COSINE = 0.995
"""Whole-image vectors nearer than this are taken for copies: the same picture scaled, encoded again or trimmed."""
TAKEN_OUT = 0.2
"""Share of each half's categories that are taken out of the memory, so that their images are unknown."""
_CHUNK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """What is fitted on and what is reported on.

    Attributes:
        fit: numbers of the images to fit on, ascending.
        report: numbers of the others, ascending.
        fit_out: categories taken out when the threshold of `unknown` is fitted.
        report_out: those taken out when it is reported; none of `fit_out`.
        copies: images that are a copy of an earlier one.
    """

    fit: Rows
    report: Rows
    fit_out: Rows
    report_out: Rows
    copies: int


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """One half of the labelled images.

    Attributes:
        items: (N) the images.
        rows: (N,) rows of their categories, -1 for a label that is no category of the memory.
        taken_out: categories without which `unknown` was fitted or reported.
        unknown: images that are unknown without those.
    """

    items: Sequence[ImageItem]
    rows: Rows
    taken_out: Rows
    unknown: int


def copy_groups(hashes: Sequence[str], vectors: NDArray[np.float32]) -> Rows:
    """Number the groups of images that are copies of one another, directly or through other copies.

    Args:
        hashes: (N) sha256 of the files; equal ones are copies.
        vectors: (N, D) unit rows; those of cosine above `COPY_COSINE` are copies. Costs O(N^2 D).

    Returns:
        (N,) int64 group of each image, from 0.
    """
    count = len(hashes)
    _, first, file = np.unique(np.asarray(hashes), return_index=True, return_inverse=True)
    left, right = [np.arange(count)], [first[file]]
    for start in range(0, count, _CHUNK):
        near, other = np.nonzero(inner_products(vectors[start : start + _CHUNK], vectors) > COPY_COSINE)
        left.append(near + start)
        right.append(other)
    edges = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(count, count))
    groups: Rows = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def split_halves(groups: Rows, rows: Rows, *, seed: int = 0, taken_out: float = TAKEN_OUT) -> Halves:
    """Deal groups of copies into two halves of nearly equal size, and choose the categories taken out in each.

    Args:
        groups: (N,) group of copies of each image.
        rows: (N,) true category rows, or `UNKNOWN`.
        seed: of both choices.
        taken_out: share of each half's categories, rounded down.
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(groups)
    in_fit = np.zeros(len(sizes), bool)
    filled = [0, 0]
    for group in rng.permutation(len(sizes)):
        half = int(filled[1] < filled[0])
        in_fit[group] = half == 0
        filled[half] += int(sizes[group])
    chosen = in_fit[groups]
    fit, report = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    in_fit_half, in_report_half = _present(rows[fit]), _present(rows[report])
    fit_out = _some(in_fit_half, int(taken_out * len(in_fit_half)), rng)
    report_out = _some(np.setdiff1d(in_report_half, fit_out), int(taken_out * len(in_report_half)), rng)
    return Halves(fit, report, fit_out, report_out, len(groups) - len(sizes))


def _present(rows: Rows) -> Rows:
    return np.unique(rows[rows != UNKNOWN])


def _some(categories: Rows, count: int, rng: np.random.Generator) -> Rows:
    return np.sort(rng.permutation(categories)[:count])
