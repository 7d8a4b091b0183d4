"""The confidence below which an image is called unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.calibration.terms import Doubles


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """A threshold and what it does.

    Attributes:
        threshold: an image of less confidence is unknown.
        known_kept: share of known images that are not called unknown.
        unknown_found: share of unknown images that are.
    """

    threshold: float
    known_kept: float
    unknown_found: float

    @property
    def balanced_accuracy(self) -> float:
        """The mean of both shares; 0.5 is chance."""
        return (self.known_kept + self.unknown_found) / 2


def fit_threshold(confidence: Doubles, known: NDArray[np.bool_]) -> UnknownRule | None:
    """Find the threshold of the best balanced accuracy; of equally good ones the lowest.

    It lies halfway between the two neighbouring confidences that it parts, or is 0.

    Args:
        confidence: (N,).
        known: (N,) whether the image shows a category of the memory.

    Returns:
        None where all images are known, or none is.
    """
    if known.all() or not known.any():
        return None
    values, place = np.unique(confidence, return_inverse=True)
    known_below = np.cumsum(np.bincount(place, weights=known)) / known.sum()
    unknown_below = np.cumsum(np.bincount(place, weights=~known)) / (~known).sum()
    # Entry i parts what is below values[i] from the rest.
    kept = 1 - np.r_[0.0, known_below[:-1]]
    found = np.r_[0.0, unknown_below[:-1]]
    best = int((kept + found).round(12).argmax())
    threshold = 0.0 if best == 0 else halfway(float(values[best - 1]), float(values[best]))
    return UnknownRule(threshold, float(kept[best]), float(found[best]))


def apply_threshold(confidence: Doubles, known: NDArray[np.bool_], threshold: float) -> UnknownRule:
    """Return what a threshold does on other images; a share of no images is NaN."""
    below = confidence < threshold
    kept = float((~below[known]).mean()) if known.any() else float("nan")
    found = float(below[~known].mean()) if not known.all() else float("nan")
    return UnknownRule(threshold, kept, found)


def halfway(below: float, above: float) -> float:
    """Return a threshold between two numbers that parts them: the first is below it, the second is not."""
    middle = below + (above - below) / 2
    return middle if below < middle else above
