"""From which confidence on labels are right as often as is asked for, with certainty of 95 % at each confidence.

The bound is that of Clopper and Pearson, one-sided: with r right of n labels the true share is below it in at most 5 %
of calibrations. A run chooses among the points of the curve, which the bound does not account for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta  # type: ignore[import-untyped]

from recognizer.calibration.terms import Answers, Doubles
from recognizer.hierarchy.rule import ASKED, confidence_for

DOUBT = 0.05
POINTS = 20
"""Confidences at which the precision is bounded: with more, one of them is lucky more often."""

Curve = tuple[tuple[float, float, float], ...]
"""Confidence, precision from there on, images with at least that confidence; all three monotone."""


@dataclass(frozen=True, slots=True)
class PrecisionReached:
    """What asking for a precision gives.

    Attributes:
        asked: the precision.
        confidence: from which an image gets a label.
        reached: share of right labels; NaN where no image gets one.
        labelled: share of images with a label.
    """

    asked: float
    confidence: float
    reached: float
    labelled: float


def lower_bound(right: int, count: int, doubt: float = DOUBT) -> float:
    """Return the share of right ones that a true share below it would exceed in at most `doubt` of the samples."""
    return float(beta.ppf(doubt, right, count - right + 1)) if right else 0.0


def precision_curve(confidence: Doubles, right: NDArray[np.bool_]) -> Curve:
    """Bound the precision above confidences that part the images into nearly equal shares.

    Args:
        confidence: (N,) of the best category.
        right: (N,) whether it is the true one; never for an image that shows none of the categories.

    Returns:
        Points of ascending confidence and precision, without those that a lower confidence makes needless; empty where
        not one answer is right.
    """
    order = np.argsort(-confidence, kind="stable")
    values, hits = confidence[order], np.cumsum(right[order])
    ends = np.flatnonzero(np.append(values[1:] < values[:-1], True)[: len(order)])  # equal ones cannot be parted
    counts = np.unique(np.linspace(0, len(order), POINTS + 1)[1:].round().astype(int))
    places = sorted({int(ends[np.searchsorted(ends, count - 1)]) for count in counts if count}, reverse=True)
    curve: list[tuple[float, float, float]] = []
    best = 0.0
    for place in places:
        bound = lower_bound(int(hits[place]), place + 1)
        if bound > best:
            best = bound
            curve.append((float(values[place]), bound, float(place + 1)))
    return tuple(curve)


def precision_reached(curve: Curve, answers: Answers) -> list[PrecisionReached]:
    """Return what asking for each of `ASKED` gives on other images than the curve was fitted on.

    Args:
        curve: as `precision_curve` returns it.
        answers: to the other images.
    """
    reached = []
    for asked in ASKED:
        confidence = confidence_for(curve, asked)
        if confidence is not None:
            labelled = answers.confidence >= confidence
            precision = float(answers.right[labelled].mean()) if labelled.any() else float("nan")
            reached.append(PrecisionReached(asked, confidence, precision, float(labelled.mean())))
    return reached
