"""Groups that are paths: "animal > bird" names the levels above a category, from the top.

Only `>` with a blank on either side separates levels, so that codes such as `A>B` stay one name. The name of a category
is never split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SEPARATOR = " > "
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""Ranks of a taxonomy, from the top: titles of columns of Darwin Core, which iNaturalist and GBIF export."""

_SEPARATOR = re.compile(r"(?:^|\s)>(?=\s|$)")


def levels(group: str) -> tuple[str, ...]:
    """Return the levels of a group, from the top; one for a plain group, none for an empty one.

    Empty levels are left out. A text that has fewer than two levels without them, such as "> 100", is a plain group.
    """
    parts = tuple(part for text in _SEPARATOR.split(group) if (part := text.strip()))
    return parts if len(parts) > 1 else (group,) if group else ()


def join_levels(parts: Iterable[str]) -> str:
    """Return the group of some levels, from the top."""
    return SEPARATOR.join(parts)
