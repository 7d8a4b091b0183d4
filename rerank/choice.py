"""From one-token answers to probabilities: rotations of the option order, and fusion with retrieval.

An MLLM favours some places in a list of options (position bias). Over all k rotations each option stands once in every
place, so the bias cancels in the mean of its log-probabilities; renormalised, the means are the MLLM's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rerank.mllm import Choice

Floats = NDArray[np.float64]
Rotations = int | Literal["auto"] | None

# Rotations that `auto` asks for first: the fewest whose spread says something; all others follow where they must. After
# a change of these two, raise `rerank.prompt.PROMPT_VERSION`, for cached answers would be others.
ASKED_FIRST = 3
# 99 % quantile of Student's t with ASKED_FIRST - 1 degrees of freedom.
STUDENT_99 = 6.965


def rotation_starts(count: int, rotations: Rotations = None) -> list[int]:
    """Return the option that each rotation of `count` options begins with: all, or `rotations` evenly spread ones.

    `auto`: those that are asked for first.
    """
    number = ASKED_FIRST if rotations == "auto" else rotations
    wanted = count if number is None else min(max(number, 1), count)
    return [number * count // wanted for number in range(wanted)]


def rotated(count: int, start: int) -> list[int]:
    """Return which option stands in each place of the rotation that begins with option `start`."""
    return [(start + place) % count for place in range(count)]


def is_settled(starts: Sequence[int], choices: Sequence[Choice], count: int) -> bool:
    """Whether the rotations that were not asked for would hardly change the first place.

    Votes are settled when the first option leads every other by more votes than rotations are left: that is exact.
    Log-probabilities have no useful exact bound. Each lies between `LOWEST_LOG_PROB` and 0, so one rotation can change
    the lead of the first option by 100, more than all leads of real answers together. So it is a test. Let d be the
    lead over one other option in each of r answers, with mean m and standard deviation s. The mean of r of k rotations
    strays from that of all k by s * sqrt((1 - r / k) / r), the standard error of a sample without replacement from k.
    The first place is settled when m is at least Student's 99 % quantile times that error, for every other option.

    The test is about the MLLM's own first place, so that cached answers do not depend on retrieval's confidences.

    Args:
        starts: of the rotations that were answered: all, or `ASKED_FIRST` of them.
        choices: their answers, by place in the rotation.
        count: of options.
    """
    left = count - len(starts)
    if not left:
        return True
    if any(choice.log_probs is None for choice in choices):
        chosen = [rotated(count, start)[choice.chosen] for start, choice in zip(starts, choices, strict=True)]
        second, first = np.sort(np.bincount(chosen, minlength=count))[-2:]
        return bool(first - second > left)
    answers = np.stack(
        [np.roll(np.asarray(c.log_probs, np.float64), start) for start, c in zip(starts, choices, strict=True)]
    )
    best = answers.mean(0).argmax()
    leads = np.delete(answers[:, [best]] - answers, best, axis=1)
    error = leads.std(0, ddof=1) * math.sqrt((1 - len(starts) / count) / len(starts))
    return bool((leads.mean(0) > STUDENT_99 * error).all())


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
