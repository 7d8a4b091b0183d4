"""The best categories of labelled images with all that is above them, and figures of answers at any level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.evaluation.metrics import Interval, bootstrap
from recognizer.hierarchy.roll_up import NO_ANSWER, first_reached
from recognizer.hierarchy.tree import Doubles, Rows, Tree

COVERED_AT = (0.95, 0.98)
"""Precisions at which the coverage is reported."""
_CANDIDATES = 201  # quantiles of the confidences that are tried as the threshold of a precision


@dataclass(frozen=True, slots=True, eq=False)
class Climbs:
    """Best categories of N images with what is above them.

    Attributes:
        values: (N, 1 + d) their confidences, from below; NaN beyond the top.
        right: (N, 1 + d) whether they are the true category or above it.
    """

    values: Doubles
    right: NDArray[np.bool_]

    def take(self, images: NDArray[np.int64] | NDArray[np.bool_]) -> Climbs:
        """Keep some images."""
        return Climbs(self.values[images], self.right[images])


@dataclass(frozen=True, slots=True)
class RollUpFigures:
    """What some thresholds give.

    Attributes:
        accuracy: share of right ones among the answers, at whatever level.
        answered: share of images with an answer.
        category: share of images whose answer is a category.
        depth: mean share of the levels of the best category's path that the answer keeps; 0 for no answer.
        levels: by level from below, the answers and their accuracy.
    """

    accuracy: Interval
    answered: float
    category: float
    depth: float
    levels: Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The largest share of images that one threshold answers with some precision; intervals by the bootstrap.

    Attributes:
        category: where answers are categories.
        rolled_up: where they are rolled up.
    """

    category: Interval
    rolled_up: Interval


def climb_scores(scores: NDArray[np.float32], temperature: float, tree: Tree, truth: Rows) -> Climbs:
    """Compute the confidences of the best category and of all above it from the scores of every category.

    Args:
        scores: (B, C).
        temperature: > 0, of the confidences.
        tree: of the C categories.
        truth: (B,) rows of the true ones; negative for none.
    """
    logits = scores.astype(np.float64) / temperature
    shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
    best = scores.argmax(1)
    every = np.arange(scores.shape[1])
    values = [tree.climb(row, own[row], tree.sums(every, own)) for row, own in zip(best.tolist(), shares, strict=True)]
    return Climbs(np.stack(values), tree.right(best, truth))


def roll_up_figures(climbs: Climbs, thresholds: Sequence[float], *, seed: int = 0) -> RollUpFigures:
    """Measure thresholds.

    Args:
        climbs: of N >= 1 images whose category is known.
        thresholds: as in `first_reached`.
        seed: of the bootstrap.
    """
    reached = first_reached(climbs.values, thresholds)
    answered = reached != NO_ANSWER
    right = climbs.right[np.arange(len(reached)), np.maximum(reached, 0)] & answered
    lengths = (~np.isnan(climbs.values)).sum(1)
    by_level = [(int((reached == level).sum()), right[reached == level]) for level in range(climbs.values.shape[1])]

    def accuracy(drawn: NDArray[np.int64]) -> float:
        count = int(answered[drawn].sum())
        return float(right[drawn].sum() / count) if count else float("nan")

    return RollUpFigures(
        accuracy=bootstrap(accuracy, len(reached), seed=seed),
        answered=float(answered.mean()),
        category=float((reached == 0).mean()),
        depth=float(np.where(answered, (lengths - reached) / lengths, 0).mean()),
        levels=[(count, float(hits.mean()) if count else float("nan")) for count, hits in by_level],
    )


def coverage_at(climbs: Climbs, precision: float, *, seed: int = 0) -> Coverage:
    """Return how many images can be answered with some precision, as categories and rolled up.

    Args:
        climbs: of N >= 1 images whose category is known.
        precision: least share of right answers.
        seed: of the bootstrap.
    """
    known = climbs.values[~np.isnan(climbs.values)]
    thresholds = np.unique(np.quantile(known, np.linspace(0, 1, _CANDIDATES)))

    def share(of: Climbs) -> Interval:
        reached = np.stack([first_reached(of.values, [threshold]) for threshold in thresholds], axis=1)
        answered = (reached != NO_ANSWER).astype(np.float32)
        images = np.arange(len(reached))[:, None]
        right = answered * of.right[images, np.maximum(reached, 0)]

        def largest(drawn: NDArray[np.int64]) -> float:
            times = np.bincount(drawn, minlength=len(reached)).astype(np.float32)
            count, hits = times @ answered, times @ right
            return float((count / len(reached))[hits >= precision * count].max(initial=0.0))

        return bootstrap(largest, len(reached), seed=seed)

    return Coverage(share(Climbs(climbs.values[:, :1], climbs.right[:, :1])), share(climbs))


@dataclass(frozen=True, slots=True)
class RollUpEvaluation:
    """How answers are rolled up on labelled images.

    Attributes:
        thresholds: that were used: of the category and of the levels above it, from below.
        figures: what they give.
        coverage: by precision, how many images can be answered.
    """

    thresholds: Sequence[float]
    figures: RollUpFigures
    coverage: Mapping[float, Coverage]


def evaluate_roll_up(parts: Sequence[Climbs], thresholds: Sequence[float], *, seed: int = 0) -> RollUpEvaluation:
    """Measure roll-up.

    Args:
        parts: climbs of all images, in batches.
        thresholds: as in `first_reached`.
        seed: of the bootstrap.
    """
    climbs = Climbs(np.concatenate([part.values for part in parts]), np.concatenate([part.right for part in parts]))
    coverage = {precision: coverage_at(climbs, precision, seed=seed) for precision in COVERED_AT}
    return RollUpEvaluation(tuple(thresholds), roll_up_figures(climbs, thresholds, seed=seed), coverage)
