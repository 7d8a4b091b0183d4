"""Turn a meaning of WordNet into visual phrases: of its gloss, its parts, and what it is a kind of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recognizer.describing.wordnet.nouns import Nouns, Sense

# Glosses of hypernyms further up describe anything ("a living thing").
LEVELS = 3
LONGEST_CLAUSE = 60
_ENDS = re.compile(r";|\s-\s")
_PIECES = re.compile(r",\s|\s(?=(?:having|with|that has|which has|bearing)\s)")
# What these clauses say cannot be seen.
_NOT_VISIBLE = re.compile(
    r"(?:often |usually |especially |formerly |once |widely |also |sometimes |commonly )*"
    r"(?:used|native|found|valued|cultivated|grown|introduced|imported|domesticated|believed|considered|known|thought"
    r"|named|called|originally|a member of|any (?:of|member)|of (?:the )?(?:[A-Z]|southern|northern|eastern|western)"
    r"|in (?:the )?(?:[A-Z]|southern|northern|eastern|western)|from |important|made by|see |e\.g\.|i\.e\."
    r"|distributed|naturalized|endangered|extinct|feeds on|feeding on|propelled|powered|trained|intended|designed|begun"
    r"|built (?:by|in|on)|able to|can be|includes|example of|in some classifications)"
)
_INSIDE = frozenset({"internal organ", "blood vessel", "muscle", "nervous tissue"})
"""What lies under the skin: kinds of body parts, by their first word."""


def phrases(sense: Sense, nouns: Nouns) -> Iterator[str]:
    """Yield phrases about what a meaning looks like, the most telling first; the caller cleans and counts them.

    Args:
        sense: the meaning.
        nouns: the table.
    """
    yield from clauses(sense.gloss)
    above, from_inside = sense, _is_inside(sense, nouns)
    for level in range(LEVELS):
        for part in map(nouns.sense, above.parts):
            if from_inside or not _is_inside(part, nouns):
                yield part.words[0]
        if not above.hypernyms:
            return
        above = nouns.sense(above.hypernyms[0])
        if level == 0:
            yield above.words[0]
            yield from clauses(above.gloss)


def _is_inside(sense: Sense, nouns: Nouns) -> bool:
    return sense.kind == "body part" and not _INSIDE.isdisjoint(nouns.sense(row).words[0] for row in nouns.kinds(sense))


def clauses(gloss: str) -> Iterator[str]:
    """Yield the clauses of a gloss that may be visible; long ones are cut at commas and before what a thing has."""
    for clause in _ENDS.split(gloss):
        pieces = [clause] if len(clause) <= LONGEST_CLAUSE else _PIECES.split(clause)
        for piece in map(str.strip, pieces):
            if piece and not _NOT_VISIBLE.match(piece):
                yield piece
