"""Figures of a calibration, as pure functions of confidences: calibration error, accuracy against coverage, AUROC.

Images of equal confidence cannot be told apart, so each counts with the mean of its equals: no figure depends on the
order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]

from recognizer.calibration.terms import Answers, Doubles, Rows, TermTable, answer
from recognizer.evaluation.metrics import Interval, bootstrap

BINS = 15
"""Bins of the calibration error, the usual number since Guo et al. (arXiv 1706.04599)."""
FEWEST_PER_BIN = 5
"""Images of a bin at least: with fewer, its accuracy is mostly chance."""


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
    """Accuracy among the images that are answered, those of the highest confidence first.

    Attributes:
        confidence: (N,) of the images, descending: the threshold at which this many are answered.
        coverage: (N,) share of the images that are answered, 1/N to 1.
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
    """Return the chance that a known image has more confidence than an unknown one; a tie counts half.

    Args:
        confidence: (N,).
        known: (N,) whether the image shows a category of the memory.

    Returns:
        A share in [0, 1]; NaN where all images are known, or none is.
    """
    first, second = int(known.sum()), int((~known).sum())
    if not first or not second:
        return float("nan")
    ranks = rankdata(confidence)[known].sum()
    return float((ranks - first * (first + 1) / 2) / (first * second))


def threshold_shares(confidence: Doubles, known: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """Return what a threshold of `unknown` does: shares of known images kept and of unknown images found.

    Args:
        confidence: (N,).
        known: (N,).
        threshold: an image of less confidence is called unknown.

    Returns:
        Both in [0, 1]; a share of no images is NaN.
    """
    kept = confidence >= threshold
    return (
        float(kept[known].mean()) if known.any() else float("nan"),
        float((~kept[~known]).mean()) if not known.all() else float("nan"),
    )


def _mean_of_equals(confidence: Doubles, right: NDArray[np.bool_]) -> Doubles:
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    means: Doubles = (np.bincount(place, weights=right) / counts)[place]
    return means


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """Figures of one setting. The figures of `unknown` are measured after categories were taken out of the memory.

    All others are over the known images, against the whole memory.

    Attributes:
        top1: accuracy.
        loss: mean negative log-probability of the true category, in nats.
        reliability: accuracy against confidence in bins; its error has no bootstrap interval, because drawing images
            again adds scatter, and scatter adds to it.
        chance_error: what that error would be, on average, were every confidence exactly the chance of being right.
        coverage: accuracy against coverage.
        coverage_area: the area under that curve.
        unknown_auroc: how well the confidence tells known from unknown images.
        known_kept: share of known images at or above the threshold of `unknown`; None without a threshold.
        unknown_found: share of unknown images below it; None without a threshold.
    """

    top1: Interval
    loss: Interval
    reliability: Reliability
    chance_error: float
    coverage: Coverage
    coverage_area: Interval
    unknown_auroc: Interval
    known_kept: float | None
    unknown_found: float | None


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
        taken_out: categories to take out of the memory for the figures of `unknown`.
        threshold: of `unknown`.
        seed: of the resampling.
    """
    known = answer(table, weights, temperature).of_known()
    fewer = answer(table.without(taken_out), weights, temperature)

    def interval(figure: Callable[[NDArray[np.int64]], float], answers: Answers = known) -> Interval:
        return bootstrap(figure, len(answers.confidence), seed=seed)

    kept, found = (None, None) if threshold is None else threshold_shares(fewer.confidence, fewer.known, threshold)
    return Assessment(
        top1=interval(lambda drawn: float(known.right[drawn].mean())),
        loss=interval(lambda drawn: float(known.loss[drawn].mean())),
        reliability=reliability(known.confidence, known.right),
        chance_error=chance_error(known.confidence, seed=seed),
        coverage=coverage_curve(known.confidence, known.right),
        coverage_area=interval(lambda drawn: coverage_curve(known.confidence[drawn], known.right[drawn]).area),
        unknown_auroc=interval(lambda drawn: auroc(fewer.confidence[drawn], fewer.known[drawn]), fewer),
        known_kept=kept,
        unknown_found=found,
    )
