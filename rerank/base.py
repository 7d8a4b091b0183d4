"""The protocol of every reranker and its one law: the output is a permutation of the input.

A `Ranking` cannot be made that breaks the law, so no caller has to check for lost, repeated or invented candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Candidate:
    """One option: a category's name, and the descriptions that may help to tell it from the others."""

    name: str
    descriptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates in their final order.

    Attributes:
        order: positions in the list that was given, best first; a permutation of range(len(probabilities)).
        probabilities: of the candidates in the order given (not in `order`), non-negative, summing to 1.
        status: `ok`, or why the order given was kept.

    Raises:
        ValueError: `order` is no permutation, or the probabilities are not of that length.
    """

    order: tuple[int, ...]
    probabilities: tuple[float, ...]
    status: str = "ok"

    def __post_init__(self) -> None:
        """Hold the law."""
        if sorted(self.order) != list(range(len(self.probabilities))):
            raise ValueError(f"order {self.order} is not a permutation of {len(self.probabilities)} candidates")


class Reranker(Protocol):
    """Anything that orders candidates by looking at the image."""

    def rank(self, image: Image, candidates: Sequence[Candidate]) -> Ranking:
        """Order distinct candidates, given best first; on any failure keep that order and say so in the status."""
        ...
