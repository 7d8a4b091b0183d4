"""The concrete nouns of WordNet 3.0 (Princeton University): meanings, glosses, hypernyms and parts of a name.

The table ships with the package (`nouns.tsv.xz`, licence beside it; `make_table` makes it).
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

KINDS = {
    "05": "animal",
    "06": "artifact",
    "08": "body part",
    "13": "food",
    "17": "natural object",
    "18": "person",
    "19": "phenomenon",
    "20": "plant",
    "27": "substance",
}
"""Files of WordNet, by number, with things that one can photograph."""

# The head of a name ends before these: "bowl of soup" is a bowl, "woman with a hat" a woman. Sentences end there, too.
_HEAD_ENDS = re.compile(
    r"\s(?:of|with|in|on|from|for|at|by|to|without|inside|covered|making|called|used|that|which|who"
    r"|is|are|was|were|has|have|means|stands|lets|gets|resembles|until|ahead)\s",
    re.IGNORECASE,
)
# Of "bunch of grapes" the grapes are shown.
_MEASURES = re.compile(
    r"(?:.*\s)?(?:pair|bunch|head|string|quarter|half|slice|piece|part|kind|group|set|row|pile|bulb|plant|baby) of\s",
    re.IGNORECASE,
)
_ADDITION = re.compile(r"\([^()]*\)")
_CLAUSE_ENDS = re.compile(r"[,.;:!?—–\n]")
_QUOTES = re.compile(r"[\"“”„«»‘]|(?<!\w)'|'(?!\w)")
# The regular plurals, as WordNet's own morphology undoes them.
_PLURALS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


# Fur, wood and meat go by the name of the animal or tree; who means the material says so.
_MADE_OF_IT = re.compile(r"(?:[\w-]+,? )*(?:fur|wood|timber|flesh|meat|hide|skin|pelt|leather) of ")
LONGEST_NOUN = 4  # words; the few longer ones of WordNet are rare
# Words of sentences and colours that are rare nouns as well.
_NO_NOUNS = frozenset(
    {"a", "an", "as", "at", "be", "can", "do", "go", "have", "he", "i", "in", "is", "it", "me", "no", "on", "or", "our"}
    | {"stop", "then", "two", "us", "was", "yes", "you", "your"}
    | {"first", "second", "third", "part"}
    | {"black", "blue", "brown", "green", "orange", "pink", "purple", "red", "silver", "white", "yellow"}
)
# "hibiscus flower" is a hibiscus; "plastic flower" is a flower.
_GENERIC = frozenset({"flower", "flowers", "fruit", "plant", "tree", "bulb"})
_GROWN = frozenset({"plant", "food"})


@dataclass(frozen=True, slots=True)
class Sense:
    """One meaning of a noun.

    Attributes:
        row: its line in the table, counted from 0.
        kind: such as `animal`, of `KINDS`.
        words: its synonyms, as words.
        gloss: its definition, without additions in brackets.
        hypernyms: rows of what it is a kind of.
        parts: rows of what it has.
    """

    row: int
    kind: str
    words: tuple[str, ...]
    gloss: str
    hypernyms: tuple[int, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name was found as.

    Attributes:
        words: of the name that were found: all of it, or its head ("lion" of "adult male lion").
        senses: the meanings, the most frequent first.
        ranks: of the meanings among all of the word, counted from 1, those that cannot be photographed included;
            equal for those whose frequency WordNet does not know.
    """

    words: str
    senses: tuple[Sense, ...]
    ranks: tuple[int, ...]


class Nouns:
    """The table, looked up by name.

    Args:
        lines: as `make_table` writes them.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        """Index the lines by word."""
        end = lines.index("")
        self._lines = lines[:end]
        self._singulars = dict(line.split() for line in lines[end + 1 :])
        self._rows: dict[str, list[tuple[int, int]]] = {}
        for row, line in enumerate(self._lines):
            for word in line.split("\t", 2)[1].split():
                lemma, _, rank = word.rpartition(":")
                self._rows.setdefault(lemma.lower(), []).append((int(rank), row))
        self._joined: dict[str, list[str]] = {}
        for lemma in self._rows:
            self._joined.setdefault(_letters(lemma), []).append(lemma)

    def find(self, name: str) -> Entry | None:
        """Look a name up.

        Returns:
            The whole name, or the longest end of its head ("male lion", or else "lion", of "adult male lion in the
            grass"); where neither is a noun of the table, the first noun in it; None for none.
        """
        plain = _QUOTES.sub(" ", _ADDITION.sub(" ", name)).replace("_", " ").replace("’", "'")
        clauses = [clause.split() for clause in _CLAUSE_ENDS.split(plain) if clause.strip()]
        if not clauses:
            return None
        if whole := self._exact(clauses[0]):
            return whole
        head = _HEAD_ENDS.split(_MEASURES.sub("", " ".join(clauses[0]), count=1), maxsplit=1)[0].split()
        for start in range(len(head)):
            if found := self._exact(head[start:]):
                return self._less_generic(head[:start], found)
        return next((entry for clause in clauses if (entry := self._first(clause))), None)

    def _less_generic(self, before: Sequence[str], found: Entry) -> Entry:
        if found.words.lower() in _GENERIC:
            for start in range(len(before)):
                other = self._exact(before[start:])
                if other and any(sense.kind in _GROWN for sense in other.senses):
                    return other
        return found

    def _first(self, words: Sequence[str]) -> Entry | None:
        """Return the first noun among some words, the longest at its place."""
        for start in range(len(words)):
            for end in range(min(len(words), start + LONGEST_NOUN), start, -1):
                entry = self._exact(words[start:end])
                if entry is not None and entry.words.lower() not in _NO_NOUNS:
                    return entry
        return None

    def common_senses(self) -> Iterator[Sense]:
        """Yield the meanings that a reader takes their first word to mean, one for each word; no proper names.

        They are the most frequent meanings of a word that is written without capitals, in the order of the table, in
        which those of a kind are neighbours.
        """
        seen: set[str] = set()
        for row, line in enumerate(self._lines):
            word, _, rank = line.split("\t", 2)[1].split(" ", 1)[0].rpartition(":")
            if rank == "1" and word == word.lower() and word not in seen:
                seen.add(word)
                yield self.sense(row)

    def relatives(self, rows: Iterable[int]) -> set[int]:
        """Return the rows of some meanings, of all that they are a kind of, and of all that is a kind of them."""
        start = set(rows)
        return _reached(start, self._above) | _reached(start, self._below)

    @cached_property
    def _above(self) -> list[list[int]]:
        return [[*map(int, line.split("\t")[3].split())] for line in self._lines]

    @cached_property
    def _below(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self._lines]
        for row, hypernyms in enumerate(self._above):
            for hypernym in hypernyms:
                below[hypernym].append(row)
        return below

    def sense(self, row: int) -> Sense:
        """Return the meaning of a line of the table."""
        kind, words, gloss, hypernyms, parts = self._lines[row].split("\t")
        return Sense(
            row,
            KINDS[kind],
            tuple(word.rpartition(":")[0].replace("_", " ") for word in words.split()),
            " ".join(_ADDITION.sub(" ", gloss).split()),
            tuple(map(int, hypernyms.split())),
            tuple(map(int, parts.split())),
        )

    def __len__(self) -> int:
        """Number of meanings, the lines of the table."""
        return len(self._lines)

    def kinds(self, sense: Sense) -> set[int]:
        """Return the rows of a meaning and of all that it is a kind of."""
        rows, waiting = {sense.row}, [*sense.hypernyms]
        while waiting:
            row = waiting.pop()
            if row not in rows:
                rows.add(row)
                waiting += self.sense(row).hypernyms
        return rows

    def _exact(self, words: Sequence[str]) -> Entry | None:
        for lemma in self._lemmas(words):
            # "butterflyfish" and "butterfly fish" are written for each other, and each has a meaning of its own.
            rows = {row: rank for spelling in self._spellings(lemma) for rank, row in self._rows[spelling]}
            if rows:
                senses = [(self.sense(row), rank) for row, rank in sorted(rows.items(), key=lambda pair: pair[1])]
                senses = [pair for pair in senses if not _MADE_OF_IT.match(pair[0].gloss)] or senses
                return Entry(" ".join(words), tuple(s for s, _ in senses), tuple(rank for _, rank in senses))
        return None

    def _spellings(self, lemma: str) -> Sequence[str]:
        return self._joined.get(_letters(lemma), ())

    def _lemmas(self, words: Sequence[str]) -> Iterator[str]:
        """Yield the forms under which words may stand in the table: as they are, then in the singular."""
        written = "_".join(words).lower()
        yield written
        if written in self._singulars:
            yield self._singulars[written]
        for plural, single in _PLURALS:
            if written.endswith(plural):
                yield written.removesuffix(plural) + single


def _reached(start: set[int], edges: Sequence[Sequence[int]]) -> set[int]:
    reached, waiting = set(start), list(start)
    while waiting:
        new = [row for row in edges[waiting.pop()] if row not in reached]
        reached.update(new)
        waiting += new
    return reached


def _letters(lemma: str) -> str:
    """Return a word without what separates its parts: "mountain goat", "mountain-goat" and "mountaingoat" are one."""
    return re.sub("[-_.']", "", lemma)


@cache
def nouns() -> Nouns:
    """Load the table that ships with the package."""
    data = (files("recognizer.describing.wordnet") / "nouns.tsv.xz").read_bytes()
    return Nouns(lzma.decompress(data).decode("ascii").split("\n")[:-1])
