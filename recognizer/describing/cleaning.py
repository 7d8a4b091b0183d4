"""Clean the descriptions that a source drafted: short, distinct, and without the name. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from memory import Category, Description
from memory.templates import bare_text, contains_name

# Text encoders of CLIP read 77 tokens with name and template; a phrase of 100 characters is about 25.
LONGEST = 100
MOST = 10
# What lists put before their items, and what is left of "It has long ears" and "The lynx has long ears".
_BULLET = re.compile(r"^(?:[-*•–·]+|\(?\d{1,2}[.):])\s+")
_LEAD = re.compile(
    r"^(?:(?:it|they|this|these)\s+)?(?:is|are|has|have|shows?|features?|typically|usually|often|which|that|with)\s+",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’`*_ "
_WORD = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The descriptions of one category that are left.

    Attributes:
        texts: at most `MOST`, in the order of the draft.
        dropped: how many are not, by reason: `without words`, `too long`, `with the name`, `repeated`, `too many`.
    """

    texts: tuple[str, ...]
    dropped: Counter[str]


def clean(texts: Iterable[str], category: Category) -> Cleaned:
    """Clean the texts about one category.

    A name or alias at the start of a text is cut off ("the lynx has tufted ears"); a text that holds one elsewhere is
    dropped, for what is left of it could mean anything.
    """
    kept: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    names = (category.name, *category.aliases)
    for text in texts:
        phrase = _tidied(text)
        for name in names:
            phrase = _without_leading(phrase, name)
        if not _WORD.search(phrase):
            dropped["without words"] += 1
        elif any(contains_name(phrase, name) for name in names):
            dropped["with the name"] += 1
        elif len(phrase) > LONGEST:
            dropped["too long"] += 1
        elif phrase.casefold() in kept:
            dropped["repeated"] += 1
        elif len(kept) == MOST:
            dropped["too many"] += 1
        else:
            kept[phrase.casefold()] = phrase
    return Cleaned(tuple(kept.values()), dropped)


def _without_leading(phrase: str, name: str) -> str:
    if not contains_name(phrase, name):
        return phrase
    bare = bare_text(Category(name), Description(phrase, "sentence"))
    return _tidied(bare) if phrase.endswith(bare) else phrase


def _tidied(text: str) -> str:
    """Return a text as `plain_line` does, without final stop and empty first words."""
    line = plain_line(text).rstrip(".;,")
    before = None
    while before != line:
        before, line = line, _LEAD.sub("", line)
    return line.strip(_QUOTES)


def plain_line(text: str) -> str:
    """Return what a model wrote as one line, without invisible characters, bullet and quotes."""
    visible = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    return _BULLET.sub("", " ".join(visible.split())).strip(_QUOTES)
