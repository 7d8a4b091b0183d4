"""Nouns of WordNet that none of some names means: wrong answers for a benchmark, and a vocabulary to guess from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from memory.templates import prompt_name
from recognizer.describing.wordnet.nouns import KINDS, Nouns, Sense, nouns
from recognizer.errors import RecognizerError


def distractors(names: Sequence[str], count: int, *, seed: int = 0) -> list[str]:
    """Draw nouns that are wrong answers for each of some names; fewer are the beginning of more.

    Left out are the synonyms of the names in all their meanings, what these are kinds of ("bird" is true of an owl,
    too), and words that are written like a name. Narrower nouns stay ("Asiatic black bear" beside "bear"), so a
    picture may show one: an accuracy among distractors is a lower bound.

    Args:
        names: the true ones.
        count: of nouns.
        seed: of the drawing.

    Raises:
        RecognizerError: WordNet does not have so many.
    """
    table = nouns()
    true: set[int] = set()
    for name in names:
        entry = table.find(prompt_name(name))
        for sense in entry.senses if entry is not None else ():
            true |= table.kinds(sense)
    # By the words: "carnivore" is also a meaning beside the one that bears are kinds of.
    taken = {_written(word) for row in true for word in table.sense(row).words} | set(map(_written, names))
    words = [word for word in vocabulary() if _written(word) not in taken]
    if count > len(words):
        raise RecognizerError(f"WordNet has {len(words)} nouns beside these names; ask for at most so many")
    return [words[place] for place in np.random.default_rng(seed).permutation(len(words))[:count]]


@cache
def vocabulary(root: str | None = None) -> tuple[str, ...]:
    """Return the concrete nouns of WordNet, one of each meaning.

    Args:
        root: what they are kinds of, such as "bird" (in the first meaning that has kinds), or one of `KINDS`, which
            are above all nouns of the table; None: all.

    Raises:
        RecognizerError: WordNet has no such noun, or knows no kinds of it.
    """
    table = nouns()
    if root is None:
        return tuple(sense.words[0] for sense in _distinct(table))
    if root in KINDS.values():
        return tuple(sense.words[0] for sense in _distinct(table) if sense.kind == root)
    entry = table.find(root)
    for sense in entry.senses if entry is not None else ():
        words = tuple(other.words[0] for other in _distinct(table) if sense.row in table.kinds(other) - {other.row})
        if words:
            return words
    raise RecognizerError(f"WordNet knows no kinds of {root!r}; name a common noun such as bird, dog or flower")


def _distinct(table: Nouns) -> Iterator[Sense]:
    """Yield the meanings whose first word is not that of an earlier one, in whatever case."""
    seen: set[str] = set()
    for row in range(len(table)):
        sense = table.sense(row)
        if (written := _written(sense.words[0])) not in seen:
            seen.add(written)
            yield sense


def _written(name: str) -> str:
    return " ".join(prompt_name(name).casefold().replace("-", " ").split())
