"""Searching wider until the recall is what it should be, measured on queries made of the rows themselves."""

from __future__ import annotations

import numpy as np

from memory.index import ExactIndex, recall_at_k
from memory.search.fold import Fold, JointRows
from memory.search.kinds import StoredIndex, sample
from memory.search.proposals import MemoryIndex
from memory.vectors import Matrix, normalize_rows

ASKED_RECALL = 0.99
"""Share of the best rows that an index has to find, or it is not used."""
# Recall is measured on this many queries at 10 rows each, so its standard error is below 0.005 at 0.99.
_QUERIES = 256
_BEST = 10
NOISE = 4.0
"""Length of the noise that is added to a unit row to make a query of it, which then has a cosine of 0.24 to its row.

Of such queries about as much is found as of features of real pictures: at 10,000 composed names by a graph, at breadths
of 64, 128 and 256, .967, .991, .997 (real: .987, .998, .998); at 100,000 by 80, 160 and 316 of 1,264 lists .961, .987,
.997 (real: .979, .984, .996). With noise of 2 or 8 it is too easy or too hard."""


def tune(index: MemoryIndex, main: StoredIndex, rows: JointRows) -> float:
    """Widen the search of an index until it reaches the asked recall, or its most.

    Args:
        index: the whole index.
        main: its `main`, whose `effort` is set.
        rows: of all categories.

    Returns:
        recall@10 against comparing all rows, in [0, 1].
    """
    queries = sample_queries(rows, index.fold)
    best, _ = ExactIndex(rows).search(queries, _BEST)
    while True:
        recall = recall_at_k(_reached(index, queries, rows), best)
        if recall >= ASKED_RECALL or main.effort >= main.most_effort:
            return recall
        main.effort = min(2 * main.effort, main.most_effort)


def sample_queries(rows: JointRows, fold: Fold) -> Matrix:
    """Return up to 256 queries (Q, W) for `rows`, each side of unit length; the same for the same rows."""
    generator = np.random.default_rng(0)
    chosen = sample(rows, _QUERIES)
    sides = chosen.reshape(len(chosen), 2 if fold.has_regions else 1, -1)
    sides = normalize_rows(sides) + generator.standard_normal(sides.shape, np.float32) * (
        NOISE / np.sqrt(sides.shape[2])
    )
    return normalize_rows(sides).reshape(chosen.shape)


def _reached(index: MemoryIndex, queries: Matrix, rows: JointRows) -> Matrix:
    """Return (Q, k) exact products of what an index finds; -inf where it finds fewer."""
    _, found = index.search(queries, _BEST)
    products = np.full(found.shape, -np.inf, np.float32)
    for query, owners in enumerate(found):
        there = owners >= 0
        products[query, there] = rows.take(owners[there]) @ queries[query]
    return products
