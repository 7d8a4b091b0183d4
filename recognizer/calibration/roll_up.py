"""Thresholds of roll-up: from which confidence on answers are right as often as is stated, level by level.

From below: at each level the lowest threshold that keeps the stated accuracy among its answers, over the images that no
level below has answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recognizer.calibration.fit import halfway
from recognizer.calibration.terms import TermTable
from recognizer.hierarchy.climbs import Climbs, RollUpFigures
from recognizer.hierarchy.roll_up import NO_ANSWER, first_reached
from recognizer.hierarchy.tree import Tree

FEWEST_PER_LEVEL = 100
"""Images that a level needs for a threshold of its own; with fewer it shares one with all levels above."""
NEVER = 1.0
"""The threshold of a level at which no confidence is right often enough: certainty."""
_CANDIDATES = 101  # quantiles of the confidences that are tried as a shared threshold


@dataclass(frozen=True, slots=True)
class RollUpFit:
    """The result of `fit_thresholds`, and what it gives on the other half.

    Attributes:
        stated: the accuracy that was asked for.
        thresholds: by level, from below; the last one is that of all levels above.
        report: figures on the half that was not fitted on.
    """

    stated: float
    thresholds: tuple[float, ...]
    report: RollUpFigures


def climb_table(table: TermTable, weights: Sequence[float], temperature: float, tree: Tree) -> Climbs:
    """Compute the confidences of the best category and of all above it.

    Args:
        table: terms of N images.
        weights: of the score.
        temperature: > 0, of the confidences.
        tree: of the memory's categories.
    """
    slopes = np.asarray(weights, np.float64) / temperature
    best, climbed = [], []
    for images, values in table.chunks():
        offset, rows = table.log_offset[images], table.categories[images]
        logits = values @ slopes
        top = np.where(np.isfinite(offset), logits, -np.inf).argmax(1)  # as in `answer`
        shifted = logits + offset
        normaliser = np.logaddexp.reduce(shifted, axis=1)
        shares = np.exp(shifted - normaliser[:, None])
        for image, place in enumerate(top.tolist()):
            sums = tree.sums(rows[image], shares[image])
            row = int(rows[image, place])
            climbed.append(tree.climb(row, float(np.exp(logits[image, place] - normaliser[image])), sums))
            best.append(row)
    values = np.stack(climbed) if climbed else np.zeros((0, 1 + tree.chains.shape[1]))
    return Climbs(values, tree.right(np.array(best, np.int64), table.true_categories()))


def fit_thresholds(climbs: Climbs, stated: float) -> tuple[float, ...]:
    """Find the thresholds at which the answers of each level are right as often as is stated.

    An accuracy is taken as r / (n + 1) for r right of n answers, so that a handful of right ones does not pass for it.

    Args:
        climbs: of the images to fit on.
        stated: the accuracy, in (0, 1).
    """
    thresholds: list[float] = []
    for level in range(climbs.values.shape[1]):
        climbs = climbs.take(~np.isnan(climbs.values[:, level]))
        if level and len(climbs.values) < FEWEST_PER_LEVEL:
            return (*thresholds, _shared_threshold(climbs, level, stated))
        order = np.argsort(-climbs.values[:, level], kind="stable")
        values, right = climbs.values[order, level], climbs.right[order, level]
        accuracy = np.cumsum(right) / (np.arange(len(order)) + 2)
        ends = np.append(values[1:] < values[:-1], True)[: len(order)]  # equal ones cannot be parted
        good = np.flatnonzero((accuracy >= stated) & ends)
        threshold = NEVER
        if len(good):
            last = int(good[-1])
            threshold = halfway(float(values[last + 1]), float(values[last])) if last + 1 < len(order) else 0.0
        thresholds.append(threshold)
        climbs = climbs.take(climbs.values[:, level] < threshold)
    return tuple(thresholds)


def _shared_threshold(climbs: Climbs, level: int, stated: float) -> float:
    """Return the lowest threshold for all levels from `level` on that keeps the stated accuracy."""
    rest = Climbs(climbs.values[:, level:], climbs.right[:, level:])
    known = rest.values[~np.isnan(rest.values)]
    for threshold in np.unique(np.quantile(known, np.linspace(0, 1, _CANDIDATES))) if len(known) else ():
        reached = first_reached(rest.values, [threshold])
        answered = np.flatnonzero(reached != NO_ANSWER)
        if rest.right[answered, reached[answered]].sum() / (len(answered) + 1) >= stated:
            return float(threshold)
    return NEVER
