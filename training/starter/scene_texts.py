"""The texts of a scene: captions that name all of its objects, and descriptions of each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.starter.pictures import HELD_OUT, fold
from training.starter.wordnet import WordNet

_LONGEST_PHRASE = 6  # words; a longer name, or one that ends in "!" or "?", is a sentence and is used unchanged
_LARGE, _SMALL = 0.15, 0.03  # share of the scene's area


@dataclass(frozen=True, slots=True)
class Seen:
    """An object that can be seen in a scene.

    Attributes:
        name: its name.
        colour: its main colour, if it has one.
        box_xyxy: around its visible part, in pixels of the scene.
        scene_size: side of the square scene, in pixels.
    """

    name: str
    colour: str | None
    box_xyxy: tuple[float, float, float, float]
    scene_size: int


class SceneTexts:
    """Writes the texts of scenes.

    Attributes:
        folds: the folds whose names may appear.
    """

    def __init__(self, folds: Sequence[int], wordnet: WordNet | None = None, *, reserved: Sequence[str] = ()) -> None:
        """Take the sources of words.

        Args:
            folds: of the names in use, never the held-out one; synonyms of other folds are left out.
            wordnet: source of glosses and synonyms; None: there are none.
            reserved: names that must not appear, in upper or lower case.

        Raises:
            ValueError: the held-out fold is among the folds.
        """
        if HELD_OUT in folds:
            raise ValueError(f"fold {HELD_OUT} is held out; its names must not be used")
        self.folds = frozenset(folds)
        self._wordnet = wordnet
        self._reserved = {name.casefold() for name in reserved}

    def captions(self, seen: Sequence[Seen], rng: np.random.Generator) -> tuple[str, ...]:
        """Name all objects in three ways: a list, a sentence with colours, a sentence with places.

        A scene without visible objects has the caption "a photo of a place".
        """
        if not seen:
            return ("a photo of a place",)
        shuffled = [seen[row] for row in rng.permutation(len(seen))]
        listed = _joined([one.name for one in shuffled])
        coloured = _joined([with_article(_coloured(one)) for one in shuffled])
        placed = _joined([f"{with_article(one.name)} {place(one)}" for one in shuffled])
        return listed, f"a photo of {coloured}", placed

    def descriptions(self, one: Seen, rng: np.random.Generator) -> tuple[str, ...]:
        """Describe an object: its name, and some of: its colour and size, its place, its synonyms, its gloss."""
        attributes = " ".join(word for word in (_size(one), _coloured(one)) if word)
        others = [with_article(attributes), f"the {one.name} {place(one)}", *self.meanings(one.name)]
        chosen = [text for text in others if rng.random() < 0.5]
        return tuple(dict.fromkeys([one.name, *chosen]))

    def meanings(self, name: str) -> tuple[str, ...]:
        """Return the synonyms of a name that may be used, and its gloss, from WordNet."""
        meaning = self._wordnet.meaning(name) if self._wordnet else None
        if meaning is None:
            return ()
        synonyms = [word for word in meaning.synonyms if self._may_use(word)]
        return tuple([*synonyms, meaning.gloss] if meaning.gloss else synonyms)

    def _may_use(self, word: str) -> bool:
        return fold(word) in self.folds and fold(word.lower()) in self.folds and word.casefold() not in self._reserved


def place(one: Seen) -> str:
    """Describe in which ninth of the scene the centre of an object's box lies."""
    x0, y0, x1, y1 = one.box_xyxy
    column, row = (int(3 * (low + high) / 2 / one.scene_size) for low, high in ((x0, x1), (y0, y1)))
    across, down = ("left", "", "right")[min(column, 2)], ("top", "", "bottom")[min(row, 2)]
    if down and across:
        return f"at the {down} {across}"
    if down:
        return f"at the {down}"
    return f"on the {across}" if across else "in the centre"


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase, nothing before a sentence or one that ends like a plural."""
    if _is_sentence(phrase):
        return phrase
    if phrase.endswith("s") and not phrase.endswith(("ss", "us", "is")):
        return phrase
    return f"{'an' if phrase[:1].lower() in set('aeiou') else 'a'} {phrase}"


def _is_sentence(name: str) -> bool:
    return len(name.split()) > _LONGEST_PHRASE or name.endswith(("!", "?"))


def _size(one: Seen) -> str:
    if _is_sentence(one.name):
        return ""
    x0, y0, x1, y1 = one.box_xyxy
    share = (x1 - x0) * (y1 - y0) / one.scene_size**2
    return "large" if share > _LARGE else "small" if share < _SMALL else ""


def _coloured(one: Seen) -> str:
    named = one.colour is None or _is_sentence(one.name) or one.colour in one.name.lower().split()
    return one.name if named else f"{one.colour} {one.name}"


def _joined(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
