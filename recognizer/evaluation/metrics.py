"""Measures of a ranking against the truth, as pure functions of ranks and labels, with bootstrap intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Bootstrap samples; the ends of a 95 % interval then vary by a few per cent of its width."""


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


def measure(ranks: NDArray[np.int64], truth: NDArray[np.int64], *, seed: int = 0) -> Accuracy:
    """Turn ranks into accuracies with intervals.

    Args:
        ranks: (N,) 1-based, N >= 1.
        truth: (N,) true category of each, for the recall per class.
        seed: of the bootstrap.
    """
    classes = np.unique(truth, return_inverse=True)[1]
    top1, top5 = (ranks <= 1).astype(float), (ranks <= 5).astype(float)
    count = len(ranks)
    return Accuracy(
        top1=bootstrap(lambda drawn: float(top1[drawn].mean()), count, seed=seed),
        top5=bootstrap(lambda drawn: float(top5[drawn].mean()), count, seed=seed),
        mean_per_class_recall=bootstrap(lambda drawn: class_recall(top1[drawn], classes[drawn]), count, seed=seed),
        median_rank=float(np.median(ranks)),
    )


def bootstrap(
    figure: Callable[[NDArray[np.int64]], float], count: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return a figure with its 95 % interval over images drawn with replacement.

    Args:
        figure: takes numbers of images; a draw for which it is NaN is left out.
        count: N of images.
        seed: of the drawing.
        resamples: how many draws.
    """
    rng = np.random.default_rng(seed)
    value = figure(np.arange(count))
    values = np.array([figure(rng.integers(count, size=count)) for _ in range(resamples)])
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(value, value, value)
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def confusions(truth: Sequence[str], predicted: Sequence[str], *, most: int = 10) -> list[tuple[str, str, int]]:
    """Return the most frequent (truth, prediction, count) among the wrong ones, ties in alphabetical order."""
    wrong = Counter((t, p) for t, p in zip(truth, predicted, strict=True) if t != p)
    return [(t, p, n) for (t, p), n in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:most]]


def class_recall(hits: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """Average the recall over the classes that have images.

    Args:
        hits: (N,) 1 where an image is right, else 0.
        classes: (N,) true class of each.
    """
    counts = np.bincount(classes)
    drawn = counts > 0
    return float((np.bincount(classes, weights=hits)[drawn] / counts[drawn]).mean())
