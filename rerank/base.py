"""The protocol of every reranker and its one law: the output is a permutation of the input.

A `Ranking` cannot be made that breaks the law, so no caller has to check for lost, repeated or invented candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


OK = "ok"
CACHED = "cached"
CONFIDENT = "skipped: confident"
GAVE_UP = "skipped: gave up"
ALONE = "skipped: one candidate"
ANSWERED = (OK, CACHED)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One option.

    Attributes:
        name: of the category.
        descriptions: those that may help to tell it from the others, best first.
        group: tells equal names apart; empty for none.
        confidence: retrieval's probability, over whatever it was taken; only ratios between candidates count.
    """

    name: str
    descriptions: tuple[str, ...] = ()
    group: str = ""
    confidence: float = 1.0

    @property
    def title(self) -> str:
        """The name as an option shows it, with its group where it has one."""
        return f"{self.name} ({self.group})" if self.group else self.name


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates in their final order.

    Attributes:
        order: positions in the list that was given, best first; a permutation of range(len(probabilities)).
        probabilities: of the candidates in the order given (not in `order`), non-negative, summing to 1.
        status: `ok` or `cached`; else why the order given was kept: `skipped: confident`, `skipped: gave up`,
            `skipped: one candidate`, `timeout`, `unreachable`, `refused`, `unreadable: REASON`.
        answer: the MLLM's own probabilities, before retrieval's were fused in; None where it did not answer.
        reasons: what was less than perfect: rotations that failed, names that a written list left out.

    Raises:
        ValueError: `order` is no permutation, or the probabilities are none.
    """

    order: tuple[int, ...]
    probabilities: tuple[float, ...]
    status: str = OK
    answer: tuple[float, ...] | None = None
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hold the law."""
        if sorted(self.order) != list(range(len(self.probabilities))):
            raise ValueError(f"order {self.order} is not a permutation of {len(self.probabilities)} candidates")
        if any(not p >= 0 for p in self.probabilities):
            raise ValueError(f"probabilities {self.probabilities} must be non-negative numbers")
        if self.probabilities and not math.isclose(sum(self.probabilities), 1, abs_tol=1e-6):
            raise ValueError(f"probabilities {self.probabilities} sum to {sum(self.probabilities)}, not to 1")


class Reranker(Protocol):
    """Anything that orders candidates by looking at the image."""

    def rank(self, image: Image, candidates: Sequence[Candidate]) -> Ranking:
        """Order distinct candidates, given best first; on any failure keep that order and say so in the status."""
        ...


def check_distinct(candidates: Sequence[Candidate]) -> None:
    """Refuse candidates that could not be told apart.

    Raises:
        ValueError: two have the same name and group; the message names them.
    """
    seen = set[tuple[str, str]]()
    for candidate in candidates:
        key = candidate.name, candidate.group
        if key in seen:
            raise ValueError(f"candidates must be distinct; {candidate.title!r} is there twice")
        seen.add(key)


def kept(candidates: Sequence[Candidate], status: str) -> Ranking:
    """Keep the order given, with retrieval's probabilities."""
    total = sum(candidate.confidence for candidate in candidates)
    count = len(candidates)
    probabilities = tuple(c.confidence / total if total > 0 else 1 / count for c in candidates)
    return Ranking(tuple(range(count)), probabilities, status)


class RerankError(Exception):
    """What is wrong, with which value, and what to do, in one message meant for the user."""
