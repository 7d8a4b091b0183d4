"""Label files, categories, their vectors, and the memory on disk that holds them.

Enter at `read_labels`, `Memory.build` and `Memory.open`. This package must not know of models, images or MLLMs: vectors
come from a `TextEncoder`, which the caller brings. What needs NumPy or LanceDB is imported when it is first used, so
that importing the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.category import Category, Description
from memory.errors import (
    BadVectors,
    EncoderMismatch,
    LabelError,
    MemoryDamaged,
    MemoryLocked,
    MemoryNotFound,
    MemoryStoreError,
    ObjectStoreError,
    PublishedMeanwhile,
    SchemaTooNew,
    UnknownCategory,
)
from memory.lazy import lazy_names

if TYPE_CHECKING:
    from memory.encoder_card import EncoderCard, TextEncoder
    from memory.labels import read_labels
    from memory.memory import Memory
    from memory.negatives import NegativeLabels
    from memory.vectors import ExemplarSet

__getattr__ = lazy_names(
    __name__,
    {
        "EncoderCard": "memory.encoder_card",
        "ExemplarSet": "memory.vectors",
        "Memory": "memory.memory",
        "NegativeLabels": "memory.negatives",
        "TextEncoder": "memory.encoder_card",
        "read_labels": "memory.labels",
    },
)
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
    "NegativeLabels",
    "ObjectStoreError",
    "PublishedMeanwhile",
    "SchemaTooNew",
    "TextEncoder",
    "UnknownCategory",
    "read_labels",
]
