"""Answers at the level at which they are sure enough.

Where the confidence of the best category is too low, the answer is the lowest of the groups above it whose summed
confidence reaches a threshold, as in SpeciesNet; where none does, there is no answer.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from memory import Category
from memory.lineage import join_levels, levels

NO_ANSWER = -1
# Sums of confidences end within this of 1.
_ROUNDING = 1e-9


def first_reached(values: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return the lowest level that reaches its threshold.

    Args:
        values: (N, s) confidence of the best category and of what is above it, from below; NaN beyond the top.
        thresholds: by level, from below; the last one is that of all levels above it.

    Returns:
        (N,) int64 level, 0 for the category itself; `NO_ANSWER` where none reaches its threshold.
    """
    needed = [thresholds[min(level, len(thresholds) - 1)] for level in range(values.shape[1])]
    reached = values >= np.array(needed) - _ROUNDING
    return np.where(reached.any(1), reached.argmax(1), NO_ANSWER)


def paths_above(name: str, group: str, groups: Container[str]) -> list[str]:
    """Return the groups that a category is in, as paths, from below.

    Args:
        name: of the category.
        group: of the category.
        groups: the paths of all groups above it, and of others.
    """
    path = Category(name, group).path
    longest = len(path) - (len(levels(name)) > 1)  # a name may look like a path
    texts = (join_levels(path[:length]) for length in range(longest, 0, -1))
    return [text for text in texts if text in groups]


def roll_up(confidence: float, above: Sequence[float], thresholds: Sequence[float]) -> int:
    """Return the lowest level that is sure enough, 0 for the category itself; `NO_ANSWER` for none.

    Args:
        confidence: of the category.
        above: the summed confidences of what is above it, from below.
        thresholds: as in `first_reached`.
    """
    for level, value in enumerate((confidence, *above)):
        if value >= thresholds[min(level, len(thresholds) - 1)] - _ROUNDING:
            return level
    return NO_ANSWER
