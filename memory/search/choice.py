"""Which kind of search `auto` means, by the number of categories and the RAM of the machine."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

IndexKind: TypeAlias = Literal["exact", "hnsw", "ivf", "lance"]
KINDS: tuple[IndexKind, ...] = ("exact", "hnsw", "ivf", "lance")

# Up to here scoring everything takes less than encoding the image, and an index gains nothing.
EXACT_CATEGORIES = 20_000
# Bytes of a row's links in the graph: 64 on the lowest level, half as many on one in 32 rows above.
_LINK_BYTES = 270
# Shares of the RAM that an index may fill: the graph is read at random, so all of it has to stay; of inverted lists
# those of frequent queries do.
_GRAPH_SHARE = 0.25
_LISTS_SHARE = 0.5


def choose_kind(categories: int, width: int, ram_bytes: int | None = None) -> IndexKind:
    """Choose how to search a memory.

    Args:
        categories: how many.
        width: numbers in a row of the index: twice the dimension of the vectors, where regions count.
        ram_bytes: of the machine; None: as the system says.
    """
    ram = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if ram_bytes is None else ram_bytes
    if categories <= EXACT_CATEGORIES:
        return "exact"
    if categories * (2 * width + _LINK_BYTES) <= _GRAPH_SHARE * ram:
        return "hnsw"
    if categories * width <= _LISTS_SHARE * ram:
        return "ivf"
    return "lance"
