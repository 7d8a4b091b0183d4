"""The names of a label file that a text encoder takes for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memory import Category
from memory.templates import name_texts
from memory.vectors import Matrix, unit_mean

if TYPE_CHECKING:
    from recognizer.encoder import Encoder

# Names compared at a time: at 100,000 names a block of cosines takes 200 MB.
ROWS = 512


def name_vectors(categories: Sequence[Category], encoder: Encoder) -> Matrix:
    """Return the (C, D) vectors of the names, as a memory would have them."""
    texts = [name_texts(category, encoder.default_templates) for category in categories]
    flat = [text for each in texts for text in each]
    return unit_mean(encoder.encode_texts(flat), np.array([len(each) for each in texts]), [each[0] for each in texts])


def confusable(vectors: Matrix, count: int) -> list[list[int]]:
    """Return for each of C names the rows of the `count` names most like it, the most similar first.

    Args:
        vectors: (C, D) unit rows.
        count: of neighbours; fewer where there are fewer names.
    """
    found: list[list[int]] = []
    count = min(count, len(vectors) - 1)
    for start in range(0, len(vectors), ROWS):
        cosines = vectors[start : start + ROWS] @ vectors.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :count] if count > 0 else np.zeros((len(cosines), 0), int)
        found += best.tolist()
    return found
