"""Numbers of result rows, rounded so that equal results give equal bytes; `encode_row` says what they must still allow.

Rounding takes half of the time of a row. Weights and boxes repeat, as many descriptions fit one region best, so theirs
are remembered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

_DECIMALS = 8
_BOX_DECIMALS = 2
_CONFIDENCE_DIGITS = 6


def rounded(number: float, places: int = _DECIMALS) -> float:
    """Return a score or a similarity with 8 decimals.

    Raises:
        ValueError: it is not finite; likewise below.
    """
    return _finite(round(float(number), places))


def rounded_confidence(number: float) -> float:
    """Return a number from 0 to 1 with 6 digits, because the small ones tell categories apart, too."""
    return _finite(float(f"{float(number):.{_CONFIDENCE_DIGITS}g}"))


def rounded_box(xyxy: Sequence[float]) -> list[float]:
    """Return a box with hundredths of a pixel."""
    return [*_edges(tuple(xyxy))]


rounded_weight = lru_cache(maxsize=64)(rounded)


@lru_cache(maxsize=1024)
def _edges(xyxy: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(rounded(edge, _BOX_DECIMALS) for edge in xyxy)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"a result row contains the number {number}; scores and boxes must be finite")
    return number + 0.0  # minus zero becomes zero
