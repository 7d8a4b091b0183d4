"""From one-token answers to probabilities: rotations of the option order, and fusion with retrieval.

An MLLM favours some places in a list of options (position bias). Over all k rotations each option stands once in every
place, so the bias cancels in the mean of its log-probabilities; renormalised, the means are the MLLM's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank.mllm import Choice

Floats = NDArray[np.float64]


def rotation_starts(count: int, rotations: int | None = None) -> list[int]:
    """Return the option that each rotation of `count` options begins with: all, or `rotations` evenly spread ones."""
    wanted = count if rotations is None else min(max(rotations, 1), count)
    return [number * count // wanted for number in range(wanted)]


def rotated(count: int, start: int) -> list[int]:
    """Return which option stands in each place of the rotation that begins with option `start`."""
    return [(start + place) % count for place in range(count)]


def combine_rotations(starts: Sequence[int], choices: Sequence[Choice], count: int) -> Floats:
    """Average the answers to rotations of the same options.

    Logarithms are averaged and renormalised. If any answer has no log-probabilities, each answer is one vote for the
    option it chose, and every option has half a vote more, so that none becomes impossible.

    Args:
        starts: of the rotations that were answered, at least one.
        choices: their answers, by place in the rotation.
        count: of options.

    Returns:
        (count,) log-probabilities in the order of the options; their exponentials sum to 1.
    """
    if any(choice.log_probs is None for choice in choices):
        votes = np.full(count, 0.5)
        for start, choice in zip(starts, choices, strict=True):
            votes[rotated(count, start)[choice.chosen]] += 1
        return normalised(np.log(votes))
    total = np.zeros(count)
    for start, choice in zip(starts, choices, strict=True):
        total[rotated(count, start)] += np.asarray(choice.log_probs, np.float64)
    return normalised(total / len(choices))


def normalised(log_weights: Floats) -> Floats:
    """Subtract the logarithm of the sum of exponentials."""
    peak = log_weights.max()
    log_probs: Floats = log_weights - (peak + math.log(np.exp(log_weights - peak).sum()))
    return log_probs


def fuse(log_answer: Floats, confidences: Sequence[float], weight: float) -> Floats:
    """Combine the MLLM's distribution with retrieval's: softmax(weight * log p_mllm + log p_retrieval).

    Args:
        log_answer: (k,) the MLLM's log-probabilities.
        confidences: (k,) retrieval's probabilities; a zero counts as the smallest normal float.
        weight: of the MLLM, lambda; 0 gives retrieval's distribution.

    Returns:
        (k,) probabilities.
    """
    prior = np.log(np.maximum(np.asarray(confidences, np.float64), np.finfo(np.float64).tiny))
    fused: Floats = np.exp(normalised(weight * log_answer + prior))
    return fused
