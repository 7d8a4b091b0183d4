"""Words of place: swapping left and right for a mirrored picture, and finding the texts that name a place."""

from __future__ import annotations

import re

_PAIRS = {"left": "right", "leftmost": "rightmost", "leftward": "rightward", "leftwards": "rightwards"}
_SWAP = {**_PAIRS, **{right: left for left, right in _PAIRS.items()}}
_SIDE = re.compile(r"(?<![^\W_])(?ai:(?:left|right)(?:most|wards|ward)?)(?![^\W_])")

_AFTER = r"side|hand|half|corner|edge|end|part|third|quarter|foreground|background|of"
_BODY = r"arm|hand|leg|foot|eye|ear|wing|paw|shoulder|cheek|knee|fin|claw|wheel|headlight|shoe|glove"
_BEFORE = (
    r"on|to|at|from|in|of|top|bottom|upper|lower|middle|cent(?:er|re)|far|facing|looking|turn(?:ed|ing|s)?|towards?"
)
_PLAIN_SIDE = re.compile(
    rf"\b(?:{_BEFORE})(?:\s+|-)(?:(?:the|its|his|her|their|far|upper|lower|top|bottom|extreme)(?:\s+|-))*(?:left|right)"
    rf"(?=\s*(?:$|[.,;:!?)]|(?:and|or|while|with|next|beside|above|below|behind|near|is|are|in|{_AFTER})\b))"
    rf"|\b(?:left|right)(?:\s+|-)(?:{_AFTER}|{_BODY})\b"
    rf"|\b(?:left|right)(?:most|wards?)\b"
    rf"|^(?:(?:the|far|upper|lower|top|bottom)\s+)*(?:left|right)(?=\s*(?:$|[.,;:]))",
    re.IGNORECASE,
)
_UNSWAPPABLE = re.compile(
    r"clockwise|\b(?:left|right)[-\s]?handed|\brights\b|\blefts\b|\b(?:of|in|by)\s+(?:left|right)\b"
    r"|\b(?:left|right)\s+of\s+way\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:left|right|leftmost|rightmost|top|bottom|upper|lower|cent(?:er|re)|middle|corner|foreground|background)\b",
    re.IGNORECASE,
)


def swap_sides(text: str) -> str | None:
    """Swap left and right in a text, for a mirrored picture.

    Args:
        text: any text.

    Returns:
        The text with every `left` and `right` swapped, also in `leftmost`, `left-hand` and similar words, in the same
        case; the text itself if it names no side; None if a word may mean something else ("left behind", "right
        angle", "clockwise"), so that the picture must not be mirrored.
    """
    if _UNSWAPPABLE.search(text):
        return None
    plain = [match.span() for match in _PLAIN_SIDE.finditer(text)]
    words = list(_SIDE.finditer(text))
    if not all(any(start <= word.start() and word.end() <= end for start, end in plain) for word in words):
        return None
    return _SIDE.sub(lambda word: _in_case_of(word.group(), _SWAP[word.group().lower()]), text)


def names_place(text: str) -> bool:
    """Return whether a text says where in the picture something is, which a crop can make untrue."""
    return _PLACE.search(text) is not None


def _in_case_of(example: str, word: str) -> str:
    if example.isupper():
        return word.upper()
    return word.capitalize() if example[0].isupper() else word
