"""Region descriptions as text: cleaned, without near-duplicates, and shortened for a detector's text limit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from recognizer.describing.cleaning import plain_line

LONGEST_WORDS = 30
"""A description of more words is a passage about the image rather than a part of it that a box could hold."""

_ENDS = " \t\"'“”‘’`.,;:!?*_"
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_ARTICLES = ("a", "an", "the")
# Words that a phrase cannot end with, and before which a phrase may end.
# fmt: off
_DANGLING = frozenset([
    "a", "an", "the", "of", "and", "or", "with", "in", "on", "at", "by", "from", "to", "for", "its", "their",
    "his", "her", "that", "which", "is", "are", "as",
])
_OPENERS = frozenset([
    "with", "and", "or", "in", "on", "at", "by", "from", "for", "that", "which", "while", "near", "under", "above",
    "behind", "along", "around", "over",
])
# fmt: on


def as_unicode(text: str) -> str:
    """Return a text without lone surrogates, which JSON can hold, and no tokenizer or file takes."""
    return text.encode("utf-8", "ignore").decode("utf-8")


def clean(text: str) -> str:
    """Return a description in one line, without the bullet, quotes and full stop that models put around it."""
    return plain_line(text).strip(_ENDS)


def clean_all(texts: Iterable[str], counts: Counter[str]) -> list[str]:
    """Clean descriptions; empty ones, ones of more than `LONGEST_WORDS` words and repeated ones are left out.

    Args:
        texts: as a model or a user wrote them.
        counts: its entries by reason are increased.
    """
    kept: dict[str, str] = {}
    for text in texts:
        cleaned = clean(text)
        words = _WORD.findall(cleaned.casefold())
        if not words:
            counts["description without words"] += 1
        elif len(words) > LONGEST_WORDS:
            counts[f"description of more than {LONGEST_WORDS} words"] += 1
        elif (wording := " ".join(words[words[0] in _ARTICLES :])) in kept:
            counts["repeated description"] += 1
        else:
            kept[wording] = cleaned
    return list(kept.values())


def word_overlap(one: str, other: str) -> float:
    """Return the number of words that two texts share, divided by the number that at least one of them has."""
    a, b = (set(_WORD.findall(text.casefold())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def shorten(text: str, fits: Callable[[str], bool]) -> str:
    """Shorten a description until it fits, at the end of a phrase where at least half of the words remain.

    Args:
        text: a cleaned description.
        fits: whether a text is short enough; what is shorter than a text that fits must fit as well.

    Returns:
        The text itself if it fits; else its longest beginning that ends a phrase, or else ends with a word of content.
        A first word that does not fit is returned whole.
    """
    if fits(text):
        return text
    words = text.split()
    if len(words) == 1:
        return text
    longest = next((end for end in range(len(words) - 1, 0, -1) if fits(_joined(words[:end]))), 1)
    for end in range(longest, longest // 2, -1):
        if (words[end - 1][-1] in ",;:" or words[end].casefold() in _OPENERS) and not _dangles(words[end - 1]):
            return _joined(words[:end])
    end = longest
    while end > 1 and _dangles(words[end - 1]):
        end -= 1
    return _joined(words[:end])


def _joined(words: Sequence[str]) -> str:
    return " ".join(words).rstrip(_ENDS)


def _dangles(word: str) -> bool:
    return word.casefold().strip(_ENDS) in _DANGLING
