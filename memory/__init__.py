"""Categories, their descriptions and their vectors: label files in, a checked memory on disk out.

Names that need LanceDB are loaded at their first use, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from memory.category import Category, Description, merge_categories
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
from memory.labels.read import read_labels
from memory.vectors import ExemplarSet, MemoryVectors, mean_by_category

if TYPE_CHECKING:
    from memory.build import BuildReport
    from memory.index import ExactIndex, HnswIndex, SearchIndex, best_columns, inner_products, recall_at_k
    from memory.memory import Memory, MemoryInfo
    from memory.search import MemoryIndex
    from memory.verify import Finding

_MODULES = {
    "BuildReport": "memory.build",
    "ExactIndex": "memory.index",
    "Finding": "memory.verify",
    "HnswIndex": "memory.index",
    "Memory": "memory.memory",
    "MemoryIndex": "memory.search",
    "MemoryInfo": "memory.memory",
    "SearchIndex": "memory.index",
    "best_columns": "memory.index",
    "inner_products": "memory.index",
    "recall_at_k": "memory.index",
}

__all__ = [
    "BadVectors",
    "BuildReport",
    "Category",
    "Description",
    "EncoderCard",
    "EncoderMismatch",
    "ExactIndex",
    "ExemplarSet",
    "Finding",
    "HnswIndex",
    "LabelError",
    "Memory",
    "MemoryDamaged",
    "MemoryIndex",
    "MemoryInfo",
    "MemoryLocked",
    "MemoryNotFound",
    "MemoryStoreError",
    "MemoryVectors",
    "SchemaTooNew",
    "SearchIndex",
    "TextEncoder",
    "UnknownCategory",
    "best_columns",
    "inner_products",
    "mean_by_category",
    "merge_categories",
    "read_labels",
    "recall_at_k",
]


def __getattr__(name: str) -> object:
    """Load a public name that needs a large library."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    return value
