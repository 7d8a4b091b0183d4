"""The last line of each part of the campaign, which its table is made of."""

from __future__ import annotations

import re
import sys
from typing import NoReturn

_LINE = re.compile(r"^(\d+) of (\d+) (.+) held$")


def conclude(held: int, total: int, what: str) -> NoReturn:
    """Print how many of the trials held, and end the process, with 1 where one did not or there were none."""
    print(f"{held} of {total} {what} held")
    sys.exit(held < total or not total)


def read_conclusion(printed: list[str]) -> tuple[int, int, str] | None:
    """Return how many held of how many, and what they were; None: the part broke off."""
    match = _LINE.match(printed[-1]) if printed else None
    return (int(match[1]), int(match[2]), match[3]) if match else None


def bound(total: int) -> str:
    """Return below which rate faults are with 95 % confidence, when none of so many trials had one: rule of three."""
    return f"{3 / total:.2%}" if total else "-"
