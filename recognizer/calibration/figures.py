"""Figures of calibration, as pure functions of confidences: calibration error, coverage against accuracy, AUROC.

Images of equal confidence cannot be told apart, so each counts with the mean of its equals: no figure depends on the
order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]

from recognizer.calibration.fit import UnknownRule, apply_threshold
from recognizer.calibration.terms import Doubles, Rows, TermTable, answer
from recognizer.evaluation.metrics import Interval

BINS = 15
FEWEST_PER_BIN = 5
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidences in bins of equally many images.

    Attributes:
        confidence: (b,) mean of each bin, ascending.
        accuracy: (b,) share of right answers in it.
        counts: (b,) images in it.
    """

    confidence: Doubles
    accuracy: Doubles
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The expected calibration error: mean of |confidence - accuracy| over the bins, weighted by their images."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.counts))


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Accuracy among the images answered, the surest first.

    Attributes:
        confidence: (N,) of the images, descending: the threshold at which so many are answered.
        coverage: (N,) share of the images answered, 1/N to 1.
        accuracy: (N,) share of right answers among them.
    """

    confidence: Doubles
    coverage: Doubles
    accuracy: Doubles

    @property
    def area(self) -> float:
        """The area under the curve: the accuracy, averaged over all coverages."""
        return float(self.accuracy.mean())


def reliability(confidence: Doubles, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Sort images into bins of equal number by their confidence.

    Args:
        confidence: (N,) in [0, 1], N >= 1.
        right: (N,) whether the answer is right.
        bins: at most; fewer where one would hold less than `FEWEST_PER_BIN` images.
    """
    bins = min(bins, max(1, len(confidence) // FEWEST_PER_BIN))
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, bins)
    hits = _mean_of_equals(confidence, right)
    return Reliability(
        confidence=np.array([confidence[part].mean() for part in parts]),
        accuracy=np.array([hits[part].mean() for part in parts]),
        counts=np.array([len(part) for part in parts]),
    )


def chance_error(confidence: Doubles, *, seed: int = 0, resamples: int = 200) -> float:
    """Return the calibration error to expect of these confidences if each were exactly the chance of being right.

    Bins of few images scatter, so that the error of a perfect calibration is not 0; it is this.
    """
    rng = np.random.default_rng(seed)
    draws = [reliability(confidence, rng.random(len(confidence)) < confidence).error for _ in range(resamples)]
    return float(np.mean(draws))


def coverage_curve(confidence: Doubles, right: NDArray[np.bool_]) -> Coverage:
    """Return accuracy against coverage.

    Args:
        confidence: (N,), N >= 1.
        right: (N,) whether the answer is right.
    """
    count = np.arange(1, len(confidence) + 1)
    order = np.argsort(-confidence, kind="stable")
    hits = _mean_of_equals(confidence, right)[order]
    return Coverage(confidence[order], count / len(confidence), np.cumsum(hits) / count)


def auroc(confidence: Doubles, known: NDArray[np.bool_]) -> float:
    """Return the chance that a known image is surer than an unknown one, a tie counting half; NaN without either.

    Args:
        confidence: (N,).
        known: (N,).
    """
    first, second = int(known.sum()), int((~known).sum())
    if not first or not second:
        return float("nan")
    ranks = rankdata(confidence)[known].sum()
    return float((ranks - first * (first + 1) / 2) / (first * second))


def bootstrap(
    figure: Callable[[NDArray[np.int64]], float], count: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return a figure with its 95 % interval over images drawn with replacement.

    Args:
        figure: takes numbers of images; a draw for which it is NaN is passed over.
        count: N of images.
        seed: of the drawing.
        resamples: how many draws.
    """
    rng = np.random.default_rng(seed)
    value = figure(np.arange(count))
    drawn = np.array([figure(rng.integers(count, size=count)) for _ in range(resamples)])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, value, value)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def _mean_of_equals(confidence: Doubles, right: NDArray[np.bool_]) -> Doubles:
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    means: Doubles = (np.bincount(place, weights=right) / counts)[place]
    return means


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """Figures of one setting. All but the last two are over the known images, against the whole memory.

    Attributes:
        top1: accuracy.
        loss: mean negative log-probability of the true category, in nats.
        calibration_error: in bins of equally many images, see `Reliability`. It has no bootstrap interval, because
            drawing images again adds scatter, and scatter adds to it.
        chance_error: what it would be, on average, were every confidence exactly the chance of being right.
        reliability: the bins.
        coverage: accuracy against coverage.
        coverage_area: the area under that curve.
        unknown_auroc: how well the confidence tells known from unknown images, after categories were taken out.
        unknown: what the threshold of `unknown` does to those images; None without a threshold.
    """

    top1: Interval
    loss: Interval
    calibration_error: float
    chance_error: float
    reliability: Reliability
    coverage: Coverage
    coverage_area: Interval
    unknown_auroc: Interval
    unknown: UnknownRule | None


def assess(
    table: TermTable,
    weights: Sequence[float],
    temperature: float,
    *,
    taken_out: Rows,
    threshold: float | None = None,
    seed: int = 0,
) -> Assessment:
    """Measure one setting.

    Args:
        table: of the half; it has at least one known image.
        weights: in the order of `TERMS`.
        temperature: of the confidences.
        taken_out: categories without which known is told from unknown.
        threshold: of `unknown`.
        seed: of the resampling.
    """
    known = answer(table, weights, temperature).of_known()
    count = len(known.confidence)
    fewer = answer(table.without(taken_out), weights, temperature)
    return Assessment(
        top1=bootstrap(lambda drawn: float(known.right[drawn].mean()), count, seed=seed),
        loss=bootstrap(lambda drawn: float(known.loss[drawn].mean()), count, seed=seed),
        calibration_error=reliability(known.confidence, known.right).error,
        chance_error=chance_error(known.confidence, seed=seed),
        reliability=reliability(known.confidence, known.right),
        coverage=coverage_curve(known.confidence, known.right),
        coverage_area=bootstrap(
            lambda drawn: coverage_curve(known.confidence[drawn], known.right[drawn]).area, count, seed=seed
        ),
        unknown_auroc=bootstrap(
            lambda drawn: auroc(fewer.confidence[drawn], fewer.known[drawn]), len(fewer.known), seed=seed
        ),
        unknown=None if threshold is None else apply_threshold(fewer.confidence, fewer.known, threshold),
    )
