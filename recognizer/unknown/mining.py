"""Which nouns of WordNet are negative labels of a memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from memory import Category, Memory, NegativeLabels
from memory.templates import prompt_names
from recognizer.describing.wordnet.nouns import nouns

CANDIDATES = 4000
"""Nouns that are encoded, evenly spaced in the table of WordNet, which is sorted by kind.

Mean AUROC over six development sets whose names were half taken out, without any, by 500, 1,000, 2,000, 4,000, 8,000
and all 29,000 nouns: .653, .670, .672, .677, .678, .679, .684. Twice as many cost twice the texts and vectors."""


def labels_again(memory: Memory) -> NegativeLabels | None:
    """Return the candidates for negative labels where a memory has some, to be chosen again after an edit."""
    return negative_labels() if memory.info().negatives else None


def negative_labels() -> NegativeLabels:
    """Return the candidates of every memory, and the choice among them."""
    return NegativeLabels([words for words, _ in _candidates(CANDIDATES)], choose)


def choose(categories: Sequence[Category]) -> NDArray[np.bool_]:
    """Choose the candidates that are unlike every category.

    Left out are candidates that are a name, a kind of what a name means or what a name is a kind of, under any meaning
    of the name. What is near a name by its vector alone stays: it is what an image of no category may show.

    Args:
        categories: of the memory.

    Returns:
        (P,) bool.
    """
    table = nouns()
    names = {name for category in categories for name in prompt_names(category)}
    entries = [entry for name in names if (entry := table.find(name)) is not None]
    related = table.relatives({sense.row for entry in entries for sense in entry.senses})
    words = {name.lower() for name in names} | {entry.words.lower() for entry in entries}
    return np.array([row not in related and word not in words for word, row in _candidates(CANDIDATES)])


@cache
def _candidates(count: int) -> list[tuple[str, int]]:
    """Return the words of the candidates, each with the row of its meaning."""
    senses = list(nouns().common_senses())
    rows = np.linspace(0, len(senses) - 1, count).round().astype(int)
    return [(senses[row].words[0], senses[row].row) for row in rows]
