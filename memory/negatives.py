"""Negative labels: names of things that the categories are not, which compete with them where `unknown` is decided.

A memory stores all candidates with their vectors, so that they are encoded once, and which of them are chosen: those
unlike every category. The choice is made again whenever categories are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.category import Category
from memory.vectors import Matrix

Choose = Callable[[Sequence[Category], NDArray[np.float32]], NDArray[np.bool_]]
"""Takes the categories and, for each of P candidates, its largest cosine with the name of a category, (P,) float32.
Returns (P,) bool, the candidates that are unlike every category."""


@dataclass(frozen=True, slots=True)
class NegativeLabels:
    """What a build needs to know of negative labels.

    Attributes:
        names: (P) distinct candidates.
        choose: chooses among them.
    """

    names: Sequence[str]
    choose: Choose


def nearest_cosines(candidates: Matrix, names: Iterable[Matrix]) -> NDArray[np.float32]:
    """Return (P,) float32 the largest cosine of each candidate with a name; -1 where there is no name.

    Args:
        candidates: (P, D) unit rows.
        names: (n, D) unit rows each, in blocks, so that a million names need not be in memory at once.
    """
    nearest = np.full(len(candidates), -1, np.float32)
    for block in names:
        if len(block):
            np.maximum(nearest, (candidates @ block.T).max(axis=1), out=nearest)
    return nearest
