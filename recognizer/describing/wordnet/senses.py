"""Choose the meaning of each name of a label file by the text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from memory.vectors import Matrix
from recognizer.describing.wordnet.nouns import Entry, Nouns, Sense

EncodeTexts = Callable[[list[str]], Matrix]
"""Takes N texts, returns (N, D) float32 unit rows."""

# Chosen on names of the stamps, 73 whose meaning is clear: 9 are wrong with these settings, with others up to 19.
NEAREST = 5
NAME_WEIGHT = 0.5
REST_WEIGHT = 0.3
RARITY_PRICE = 0.05
# Two rounds settle nearly all; the third is for chains of names that depend on each other.
ROUNDS = 3
# A sample of a long label file tells as much about what it lists as all of it.
MOST_NEIGHBOURS = 2000
ROWS = 1024


def choose_senses(
    names: Sequence[str], groups: Sequence[str], found: Sequence[Entry | None], nouns: Nouns, encode: EncodeTexts
) -> list[Sense | None]:
    """Choose for each name the meaning that is nearest to the other names as they are meant.

    A meaning scores the mean cosine of its gloss with the nearest glosses of the other names, its cosines with the
    name, with the group and with what the name adds to the noun ("trophy" of "trophy cup"), which weigh less, and less
    a price for rare meanings. Glosses of the other names are
    those of their best meanings so far, at first of the most frequent ones.

    Args:
        names: (N) of the label file.
        groups: (N) their groups, empty for none.
        found: (N) what the names were found as; None for nothing.
        nouns: the table.
        encode: of the text encoder.

    Returns:
        (N) the meanings; None for a name that was not found.
    """
    choices = [
        (place, sense, rank)
        for place, entry in enumerate(found)
        if entry is not None
        for sense, rank in zip(entry.senses, entry.ranks, strict=True)
    ]
    if not choices:
        return [None] * len(names)
    glosses = encode([gloss_text(sense, nouns) for _, sense, _ in choices])
    places = np.array([place for place, *_ in choices])
    score = NAME_WEIGHT * (glosses * encode(list(names))[places]).sum(1)
    score += REST_WEIGHT * _nearness_of_rest(glosses, places, names, found, encode)
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


def of_group(entry: Entry, group: str, nouns: Nouns) -> Entry:
    """Keep the meanings that are a kind of what the group is called: of "crane" in the group "birds" the bird.

    Args:
        entry: what a name was found as.
        group: of the name.
        nouns: the table.

    Returns:
        The entry with these meanings alone; unchanged where there are none, as in a group that is no kind of thing.
    """
    above = nouns.find(group)
    wanted = {sense.row for sense in above.senses} if above is not None else set[int]()
    fitting = [place for place, sense in enumerate(entry.senses) if wanted & nouns.kinds(sense)]
    if not fitting:
        return entry
    return replace(
        entry,
        senses=tuple(entry.senses[place] for place in fitting),
        ranks=tuple(entry.ranks[place] for place in fitting),
    )


def gloss_text(sense: Sense, nouns: Nouns) -> str:
    """Return what stands for a meaning: what it is a kind of, and its gloss, without its own name."""
    above = nouns.sense(sense.hypernyms[0]).words[0] if sense.hypernyms else sense.kind
    return f"{above}, {sense.gloss}"


def _nearness_of_rest(
    glosses: Matrix, places: np.ndarray, names: Sequence[str], found: Sequence[Entry | None], encode: EncodeTexts
) -> Matrix:
    """Return for each meaning the cosine of its gloss with what the name has besides the noun; 0 where it has none."""
    rests = [
        " ".join(name.replace(entry.words, " ").split()) if entry is not None else ""
        for name, entry in zip(names, found, strict=True)
    ]
    texts = list(dict.fromkeys(rest for rest in rests if rest))
    if not texts:
        return np.zeros(len(glosses), np.float32)
    vectors = dict(zip(texts, encode(texts), strict=True))
    nothing = np.zeros(glosses.shape[1], np.float32)
    rows = np.stack([vectors.get(rests[place], nothing) for place in places])
    nearness: Matrix = (glosses * rows).sum(1)
    return nearness


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
