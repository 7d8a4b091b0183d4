"""Choose the meaning of each name of a label file by the text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from memory.vectors import Matrix
from recognizer.describing.wordnet.nouns import Entry, Nouns, Sense

EncodeTexts = Callable[[list[str]], Matrix]
"""Takes N texts, returns (N, D) float32 unit rows."""

# Chosen on the names of the stamps, by the meanings that changed: with a weight of 1 for the name the materials of
# animals win, with 0 meanings that are near to anything; between 0.02 and 0.05 the price of rarity changes 7 of 403.
NEAREST = 10
NAME_WEIGHT = 0.5
RARITY_PRICE = 0.03
# Two rounds settle nearly all; the third is for chains of names that depend on each other.
ROUNDS = 3
# A sample of a long label file tells as much about what it lists as all of it.
MOST_NEIGHBOURS = 2000
ROWS = 1024


def choose_senses(
    names: Sequence[str], groups: Sequence[str], found: Sequence[Sequence[Entry]], nouns: Nouns, encode: EncodeTexts
) -> list[Sense | None]:
    """Choose for each name the meaning that is nearest to the other names as they are meant.

    A meaning scores the mean cosine of its gloss with the nearest glosses of the other names, half its cosine with the
    name, as much with the group where there is one, less a price for rare meanings. Glosses of the other names are
    those of their best meanings so far, at first of the most frequent ones.

    Args:
        names: (N) of the label file.
        groups: (N) their groups, empty for none.
        found: (N) what the names were found as.
        nouns: the table.
        encode: of the text encoder.

    Returns:
        (N) the meanings; None for a name that was not found.
    """
    choices = [
        (place, sense, rank)
        for place, entries in enumerate(found)
        for entry in entries
        for sense, rank in zip(entry.senses, entry.ranks, strict=True)
    ]
    if not choices:
        return [None] * len(names)
    glosses = encode([gloss_text(sense, nouns) for _, sense, _ in choices])
    places = np.array([place for place, *_ in choices])
    score = NAME_WEIGHT * (glosses * encode(list(names))[places]).sum(1)
    kinds = list(dict.fromkeys(groups))
    grouped = np.array([kinds.index(groups[place]) for place in places])
    if any(kinds):
        has_group = np.array([bool(groups[place]) for place in places])
        of_kinds = encode([kind or "thing" for kind in kinds])
        score += NAME_WEIGHT * has_group * (glosses * of_kinds[grouped]).sum(1)
    score -= RARITY_PRICE * np.log([rank for *_, rank in choices])
    spans = [list(span) for _, span in groupby(range(len(choices)), key=lambda choice: places[choice])]
    chosen = [min(span, key=lambda choice: choices[choice][2]) for span in spans]
    for _ in range(ROUNDS):
        total = score + _nearness(glosses, places, np.array(chosen))
        better = [max(span, key=lambda choice: total[choice]) for span in spans]
        if better == chosen:
            break
        chosen = better
    senses = {choices[choice][0]: choices[choice][1] for choice in chosen}
    return [senses.get(place) for place in range(len(names))]


def gloss_text(sense: Sense, nouns: Nouns) -> str:
    """Return what stands for a meaning: what it is a kind of, and its gloss, without its own name."""
    above = nouns.sense(sense.hypernyms[0]).words[0] if sense.hypernyms else sense.kind
    return f"{above}, {sense.gloss}"


def _nearness(glosses: Matrix, places: np.ndarray, chosen: np.ndarray) -> Matrix:
    """Return for each meaning the mean cosine with the nearest meanings chosen for other names."""
    sample = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_NEIGHBOURS)).round().astype(int)]
    nearest = np.zeros(len(glosses), np.float32)
    for start in range(0, len(glosses), ROWS):
        part = slice(start, start + ROWS)
        cosines = glosses[part] @ glosses[sample].T
        other = places[part, None] != places[sample]
        count = min(NEAREST, int(other.sum(1).min()))
        if count:
            nearest[part] = -np.partition(np.where(other, -cosines, 1), count - 1, axis=1)[:, :count].mean(1)
    return nearest
