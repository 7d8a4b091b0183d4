"""Which kind of search `auto` means, by the number of categories and the RAM of the machine."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

IndexKind: TypeAlias = Literal["exact", "hnsw", "ivf", "lance"]
KINDS: tuple[IndexKind, ...] = ("exact", "hnsw", "ivf", "lance")

# Up to here scoring everything takes less than encoding the image, and an index gains nothing.
EXACT_CATEGORIES = 20_000
# Share of the RAM that the lists may fill, at a byte a number: those of frequent queries have to stay.
_LISTS_SHARE = 0.5


def choose_kind(categories: int, width: int, ram_bytes: int | None = None) -> IndexKind:
    """Choose how to search a memory: by comparing all, by lists, or on the disk. A graph is only taken on request.

    At 100,000 categories with 3 descriptions a graph takes 8 times as long to build as lists, and finds as much more
    slowly.

    Args:
        categories: how many.
        width: numbers in a row of the index: twice the dimension of the vectors, where regions count.
        ram_bytes: of the machine; None: as the system says.
    """
    ram = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if ram_bytes is None else ram_bytes
    if categories <= EXACT_CATEGORIES:
        return "exact"
    if categories * width <= _LISTS_SHARE * ram:
        return "ivf"
    return "lance"
