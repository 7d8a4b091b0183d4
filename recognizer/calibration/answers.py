"""What the score answers to each image under given weights: its best category, how sure it is, whether it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.calibration.terms import Doubles, TermTable


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers to N images.

    Attributes:
        confidence: (N,) softmax probability of the best category.
        right: (N,) whether it is the true one; never for an unknown image.
        known: (N,) whether the true category takes part.
        loss: (N,) -log of the true category's probability; NaN for an unknown image.
    """

    confidence: Doubles
    right: NDArray[np.bool_]
    known: NDArray[np.bool_]
    loss: Doubles

    def of_known(self) -> Answers:
        """Keep the images whose true category takes part."""
        keep = self.known
        return Answers(self.confidence[keep], self.right[keep], keep[keep], self.loss[keep])


def answer(table: TermTable, weights: Sequence[float], temperature: float) -> Answers:
    """Answer every image.

    Args:
        table: its terms.
        weights: in the order of `TERMS`.
        temperature: > 0, of the softmax over the categories that take part.
    """
    slopes = np.asarray(weights, np.float64) / temperature
    best, confidence, loss = [], [], []
    for images, values in table.chunks():
        offset, truth = table.log_offset[images], table.truth[images]
        logits = values @ slopes
        numbers = np.arange(len(truth))
        # A sampled category stands for many, but competes as one.
        top = np.where(np.isfinite(offset), logits, -np.inf).argmax(1)
        shifted = logits + offset
        peak = shifted.max(1)
        normaliser = peak + np.log(np.exp(shifted - peak[:, None]).sum(1))
        best.append(top)
        confidence.append(np.exp(logits[numbers, top] - normaliser))
        loss.append(normaliser - logits[numbers, truth])
    known = table.known
    return Answers(
        confidence=np.minimum(np.concatenate(confidence), 1.0),  # rounding may lift it above 1
        right=known & (np.concatenate(best) == table.truth),
        known=known,
        loss=np.where(known, np.concatenate(loss), np.nan),
    )
