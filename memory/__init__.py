"""Label files, categories, their vectors, and the memory on disk that holds them.

Enter at `read_labels`, `Memory.build` and `Memory.open`. This package must not know of models, images or MLLMs: vectors
come from a `TextEncoder`, which the caller brings.

`Memory` is loaded at its first use, because it needs LanceDB, so that importing the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.category import Category, Description
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import (
    BadVectors,
    EncoderMismatch,
    LabelError,
    MemoryDamaged,
    MemoryLocked,
    MemoryNotFound,
    MemoryStoreError,
    SchemaTooNew,
    UnknownCategory,
)
from memory.labels import read_labels
from memory.vectors import ExemplarSet

if TYPE_CHECKING:
    from memory.memory import Memory

__all__ = [
    "BadVectors",
    "Category",
    "Description",
    "EncoderCard",
    "EncoderMismatch",
    "ExemplarSet",
    "LabelError",
    "Memory",
    "MemoryDamaged",
    "MemoryLocked",
    "MemoryNotFound",
    "MemoryStoreError",
    "SchemaTooNew",
    "TextEncoder",
    "UnknownCategory",
    "read_labels",
]


def __getattr__(name: str) -> object:
    """Load `Memory` when it is asked for."""
    if name != "Memory":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memory.memory import Memory

    return Memory
