"""Measures of a ranking against the truth, as pure functions of ranks and labels, with bootstrap intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What one way of scoring reached on a labelled set."""

    top1: Interval
    top5: Interval
    mean_per_class_recall: Interval
    median_rank: float


def truth_ranks(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the 1-based rank of the true category of each image, under the order of `memory.best_columns`.

    Args:
        scores: (B, C).
        truth: (B,) columns.

    Returns:
        (B,) int64: 1 + how many score higher, or score the same in a lower column.
    """
    own = scores[np.arange(len(truth)), truth][:, None]
    before = np.arange(scores.shape[1]) < truth[:, None]
    ranks: NDArray[np.int64] = 1 + (scores > own).sum(1) + ((scores == own) & before).sum(1)
    return ranks


def measure(ranks: NDArray[np.int64], truth: NDArray[np.int64], *, seed: int = 0, resamples: int = 1000) -> Accuracy:
    """Turn ranks into accuracies; images are resampled with replacement for the intervals.

    Args:
        ranks: (N,) 1-based, N >= 1.
        truth: (N,) true category of each, for the recall per class.
        seed: of the resampling.
        resamples: bootstrap samples.
    """
    picks = np.random.default_rng(seed).integers(len(ranks), size=(resamples, len(ranks)))
    classes = np.unique(truth, return_inverse=True)[1]
    top1, top5 = (ranks <= 1).astype(float), (ranks <= 5).astype(float)
    return Accuracy(
        top1=_interval(top1.mean(), top1[picks].mean(1)),
        top5=_interval(top5.mean(), top5[picks].mean(1)),
        mean_per_class_recall=_interval(
            _class_recall(top1, classes), np.array([_class_recall(top1[pick], classes[pick]) for pick in picks])
        ),
        median_rank=float(np.median(ranks)),
    )


def confusions(truth: Sequence[str], predicted: Sequence[str], *, most: int = 10) -> list[tuple[str, str, int]]:
    """Return the most frequent (truth, prediction, count) among the wrong ones, ties in alphabetical order."""
    wrong = Counter((t, p) for t, p in zip(truth, predicted, strict=True) if t != p)
    return [(t, p, n) for (t, p), n in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:most]]


def _class_recall(hits: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    counts = np.bincount(classes)
    recall = np.bincount(classes, weights=hits)[counts > 0] / counts[counts > 0]
    return float(recall.mean())


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(float(value), float(low), float(high))
