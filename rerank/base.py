"""What goes in and what comes out, with one law: a `Ranking` is a permutation of the candidates.

A `Ranking` that breaks the law cannot be made, so no caller has to check for lost, repeated or invented candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


OK = "ok"
CACHED = "cached"
CONFIDENT = "skipped: confident"
GAVE_UP = "skipped: gave up"
ALONE = "skipped: one candidate"
ANSWERED = (OK, CACHED)


class RerankError(Exception):
    """What is wrong, with which value, and what to do, in one message meant for the user."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One option.

    Attributes:
        name: of the category.
        descriptions: those that may help to tell it from the others, best first.
        group: tells equal names apart; empty for none.
        confidence: retrieval's probability; only ratios between candidates count.
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
class Question:
    """One image with its candidates.

    Attributes:
        image_sha256: identifies the content of the image, for the cache.
        load: returns the image; called only if the answer is not in the cache. An OSError or ValueError that it raises
            fails this question alone.
        candidates: distinct, best first.
    """

    image_sha256: str
    load: Callable[[], Image]
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an MLLM answered about k candidates, before retrieval's confidences are fused in.

    Attributes:
        log_probs: (k,) natural logarithms of its probabilities, in the order of the question's candidates.
        reasons: what was less than perfect: rotations that failed, names that a written list left out.
        failed: requests of the question that failed. An answer with failures is used, but not cached.
    """

    log_probs: tuple[float, ...]
    reasons: tuple[str, ...] = ()
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates in their final order.

    Attributes:
        order: positions in the question's candidates, best first; a permutation of range(len(probabilities)).
        probabilities: of the candidates in the question's order (not in `order`), non-negative, summing to 1.
        status: `ok` or `cached`; otherwise why the order did not change: `skipped: confident`, `skipped: gave up`,
            `skipped: one candidate`, `timeout`, `unreachable`, `refused`, `unreadable: REASON`.
        answer: the MLLM's own probabilities, before retrieval's were fused in; None if it gave none.
        reasons: those of the answer.

    Raises:
        ValueError: `order` is not a permutation, or the probabilities do not form a distribution.
    """

    order: tuple[int, ...]
    probabilities: tuple[float, ...]
    status: str = OK
    answer: tuple[float, ...] | None = None
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the law."""
        if sorted(self.order) != list(range(len(self.probabilities))):
            raise ValueError(f"order {self.order} is not a permutation of {len(self.probabilities)} candidates")
        if any(not p >= 0 for p in self.probabilities):
            raise ValueError(f"probabilities {self.probabilities} must be non-negative numbers")
        if self.probabilities and not math.isclose(sum(self.probabilities), 1, abs_tol=1e-6):
            raise ValueError(f"probabilities {self.probabilities} sum to {sum(self.probabilities)}, not to 1")


def check_distinct(candidates: Sequence[Candidate]) -> None:
    """Refuse candidates that could not be told apart.

    Raises:
        ValueError: two have the same name and group; the message names them.
    """
    seen = set[tuple[str, str]]()
    for candidate in candidates:
        key = candidate.name, candidate.group
        if key in seen:
            raise ValueError(f"candidates must be distinct; {candidate.title!r} occurs twice")
        seen.add(key)


def unchanged_ranking(candidates: Sequence[Candidate], status: str) -> Ranking:
    """Rank the candidates in the order that retrieval gave them, with retrieval's probabilities."""
    total = sum(candidate.confidence for candidate in candidates)
    count = len(candidates)
    probabilities = tuple(c.confidence / total if total > 0 else 1 / count for c in candidates)
    return Ranking(tuple(range(count)), probabilities, status)
