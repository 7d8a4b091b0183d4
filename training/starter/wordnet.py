"""The nouns of WordNet: definition and synonyms of a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path("wordnet-base/usr/share/wordnet")
_CONCRETE = frozenset({"05", "06", "08", "13", "17", "19", "20", "27"})
"""Files of things one can photograph: animals, artefacts, body parts, food, natural objects, phenomena, plants and
substances. Persons are left out, because the first sense of "hot dog" and "crane" is a person."""
_PROPER = " @i "  # marks an instance ("Stephen Crane") instead of a kind
_LONGEST_NAME = 4  # words; a longer name is a sentence, whose last noun need not be its head
_HEAD_ENDS = re.compile(r"\s*(?:,|\(|\s(?:of|with|in|on|from|for|and|at)\s)")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a name.

    Attributes:
        gloss: its definition, without examples.
        synonyms: other words for the same thing; empty if only the head word of the name was found.
    """

    gloss: str
    synonyms: tuple[str, ...]


class WordNet:
    """The first sense of nouns, where it is concrete; WordNet lists senses by falling frequency."""

    def __init__(self, root: Path) -> None:
        """Read the index.

        Args:
            root: the folder that `fetch_pictures.sh` fills.

        Raises:
            FileNotFoundError: WordNet is missing below `root`.
        """
        index = (root / _FOLDER / "index.noun").read_text(encoding="ascii").splitlines()
        self._data = (root / _FOLDER / "data.noun").read_bytes()
        self._offsets = {
            lemma: rest for line in index if not line.startswith(" ") for lemma, rest in [line.split(" ", 1)]
        }

    @classmethod
    def where_fetched(cls, root: Path) -> WordNet | None:
        """Return WordNet, or None if it is missing below `root`."""
        return cls(root) if (root / _FOLDER / "index.noun").exists() else None

    def meaning(self, name: str) -> Meaning | None:
        """Look a name up, then its head noun ("lion" of "adult male lion", "bowl" of "bowl of soup")."""
        whole = self._sense(name)
        if whole is not None:
            return whole
        words = _HEAD_ENDS.split(name, maxsplit=1)[0].split()
        for start in range(len(words) if len(words) <= _LONGEST_NAME else 0):
            head = self._sense(" ".join(words[start:]))
            if head is not None:
                return Meaning(head.gloss, ())
        return None

    def _sense(self, name: str) -> Meaning | None:
        lemma = name.lower().replace(" ", "_")
        rest = self._offsets.get(lemma) or (self._offsets.get(lemma[:-1]) if lemma.endswith("s") else None)
        if rest is None:
            return None
        for offset in (field for field in rest.split() if len(field) == 8):
            line = self._line(int(offset))
            if _PROPER not in line:
                return _parse(line, lemma) if line.split(" ", 2)[1] in _CONCRETE else None
        return None

    def _line(self, offset: int) -> str:
        return self._data[offset : self._data.index(b"\n", offset)].decode("ascii")


def _parse(line: str, lemma: str) -> Meaning:
    """Parse a line of `data.noun`: offset, file, type, number of words (hexadecimal), words with ids, ..., gloss."""
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    synonyms = tuple(word.replace("_", " ") for word in words if word.lower() not in (lemma, lemma.removesuffix("s")))
    definition = re.sub(r"\([^)]*\)", "", gloss.split('"')[0].split(";")[0])
    return Meaning(" ".join(definition.split()), synonyms)
