"""A few labelled images of each class, drawn by a seed or taken in the order of the files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def draw_shots(labels: Rows, count: int, *, seed: int | None) -> Rows:
    """Choose up to `count` images of each class; those of a smaller count are among those of a larger one.

    Args:
        labels: (N,) class of each image.
        count: of images per class; a class with fewer gives all it has.
        seed: of the drawing; None takes the first ones, in RAR's way (arXiv 2403.13805).

    Returns:
        (n,) ascending numbers of images.
    """
    ordered, place, _ = _places(labels, seed)
    return np.sort(ordered[place < count])


def halves(labels: Rows, *, seed: int | None) -> tuple[Rows, Rows]:
    """Divide images that come without a test set: of each class half, rounded down, may be shots, the rest are tests.

    Args:
        labels: (N,) class of each image.
        seed: of the drawing; None: the first half may be shots.

    Returns:
        The ascending numbers of the images that may be shots, and of those that test.
    """
    ordered, place, sizes = _places(labels, seed)
    is_shot = place < sizes // 2
    return np.sort(ordered[is_shot]), np.sort(ordered[~is_shot])


def short_classes(labels: Rows, count: int, names: Sequence[str]) -> dict[str, int]:
    """Return the classes that have fewer than `count` images, with the number that they have.

    Args:
        labels: (N,) class of each image, a row of `names`.
        count: of images asked for.
        names: of the classes.
    """
    counts = np.bincount(labels, minlength=len(names))
    return {names[row]: int(counts[row]) for row in np.flatnonzero(counts < count).tolist()}


def _places(labels: Rows, seed: int | None) -> tuple[Rows, Rows, Rows]:
    """Order images by class, and within it by the seed: their numbers, places in their class and sizes of the class."""
    order = np.arange(len(labels)) if seed is None else np.random.default_rng(seed).permutation(len(labels))
    ordered = order[np.argsort(labels[order], kind="stable")]
    own = labels[ordered]
    first, end = np.searchsorted(own, own), np.searchsorted(own, own, side="right")
    return ordered, np.arange(len(own)) - first, end - first
