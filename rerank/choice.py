"""From one-token answers to probabilities: rotations of the option order, two rounds for many options, fusion.

An MLLM favours some places in a list of options. Each option stands once in every place over all k rotations, so the
mean of its log-probabilities carries no favour of place; renormalised it is the MLLM's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank.mllm import MOST_OPTIONS, Choice

Floats = NDArray[np.float64]


def rotation_starts(count: int, rotations: int | None = None) -> list[int]:
    """Return where each rotation of `count` options begins: all of them, or `rotations` spread evenly."""
    wanted = count if rotations is None else min(max(rotations, 1), count)
    return [number * count // wanted for number in range(wanted)]


def rotated(count: int, start: int) -> list[int]:
    """Return which option stands in each place of the rotation that begins with option `start`."""
    return [(start + place) % count for place in range(count)]


def combine_rotations(starts: Sequence[int], choices: Sequence[Choice], count: int) -> Floats:
    """Average the answers to rotations of the same options.

    Logarithms are averaged and renormalised. Where any answer has no log-probabilities each one is a vote for its
    option, with half a vote for every option so that none becomes impossible.

    Args:
        starts: of the rotations answered, at least one.
        choices: the answers, in places of their rotation.
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
    found: Floats = log_weights - (peak + math.log(np.exp(log_weights - peak).sum()))
    return found


def fuse(log_answer: Floats, confidences: Sequence[float], weight: float) -> Floats:
    """Join the MLLM's distribution with retrieval's: softmax(weight * log p_mllm + log p_retrieval).

    Args:
        log_answer: (k,) the MLLM's log-probabilities.
        confidences: (k,) retrieval's probabilities; a zero counts as the smallest float.
        weight: lambda; 0 leaves retrieval's distribution.

    Returns:
        (k,) probabilities.
    """
    prior = np.log(np.maximum(np.asarray(confidences, np.float64), np.finfo(np.float64).tiny))
    fused: Floats = np.exp(normalised(weight * log_answer + prior))
    return fused


def groups(count: int, most: int = MOST_OPTIONS) -> list[list[int]]:
    """Deal options into the fewest groups of at most `most`, as alike in size and in retrieval rank as can be.

    Raises:
        ValueError: so many options that not one of each group would have a seat in a final of `most`.
    """
    number = max(1, math.ceil(count / most))
    if number > most:
        raise ValueError(f"{count} options are too many for two rounds of {most}; give at most {most * most}")
    return [list(range(first, count, number)) for first in range(number)]


def finalists(in_groups: Sequence[Sequence[int]], answers: Sequence[Floats], most: int = MOST_OPTIONS) -> list[int]:
    """Return the best options of each group, as many of each as fit into one final round, in the options' order."""
    seats = most // len(in_groups)
    chosen = []
    for members, answer in zip(in_groups, answers, strict=True):
        best = sorted(range(len(members)), key=lambda place: -answer[place])[:seats]
        chosen += [members[place] for place in best]
    return sorted(chosen)


def join_rounds(
    in_groups: Sequence[Sequence[int]], answers: Sequence[Floats], final: Sequence[int], final_answer: Floats
) -> Floats:
    """Join the rounds: who did not reach the final keeps its odds against the weakest of its group that did.

    Odds between two options are taken to be the same in every round (Luce's choice axiom).

    Args:
        in_groups: members of each group.
        answers: per group, log-probabilities of its members.
        final: who reached the final.
        final_answer: log-probabilities there.

    Returns:
        (k,) log-probabilities over all options.
    """
    joined = np.zeros(sum(len(members) for members in in_groups))
    in_final = dict(zip(final, final_answer, strict=True))
    for members, answer in zip(in_groups, answers, strict=True):
        through = [place for place, option in enumerate(members) if option in in_final]
        link = min(through, key=lambda place: answer[place])
        for place, option in enumerate(members):
            joined[option] = in_final.get(option, in_final[members[link]] + answer[place] - answer[link])
    return normalised(joined)
