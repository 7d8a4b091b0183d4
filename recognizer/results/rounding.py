"""Numbers of result rows, rounded so that equal results give equal bytes; `encode_row` says what they still allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_DECIMALS = 8
_BOX_DECIMALS = 2
_CONFIDENCE_DIGITS = 6
_EXACT, _PRODUCT_ERROR = 1e9, 1e-6  # doubles below the one are at most 2^-23 apart, a tenth of the other


def rounded(number: float, places: int = _DECIMALS) -> float:
    """Return a score or a similarity with 8 decimals.

    Raises:
        ValueError: it is not finite; likewise below.
    """
    return _finite(round(float(number), places))


def rounded_all(numbers: Sequence[float]) -> list[float]:
    """Return `rounded` of many numbers, with the same bits and several times as fast.

    Raises:
        ValueError: one is not finite.
    """
    values = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        scaled = values * 10.0**_DECIMALS
    whole = np.rint(scaled)
    # The product is off by less than this, so elsewhere both round to the same whole number; its quotient is the
    # double nearest to the decimal, which `round` returns. Comparisons with NaN are false.
    with np.errstate(invalid="ignore"):
        sure = (np.abs(scaled) < _EXACT) & (np.abs(np.abs(scaled - whole) - 0.5) > _PRODUCT_ERROR)
    found: list[float] = (whole / 10.0**_DECIMALS + 0.0).tolist()
    for place in np.flatnonzero(~sure).tolist():
        found[place] = rounded(numbers[place])
    return found


def rounded_confidence(number: float) -> float:
    """Return a number from 0 to 1 with 6 digits, because the small ones tell categories apart, too."""
    return _finite(float(f"{float(number):.{_CONFIDENCE_DIGITS}g}"))


def rounded_box(xyxy: Sequence[float]) -> list[float]:
    """Return a box with hundredths of a pixel."""
    return [rounded(edge, _BOX_DECIMALS) for edge in xyxy]


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"a result row contains the number {number}; scores and boxes must be finite")
    return number + 0.0  # minus zero becomes zero
