"""Make the table of concrete nouns that ships with the package, from the files of WordNet 3.0.

usage: python -m recognizer.describing.wordnet.make_table /usr/share/wordnet recognizer/describing/wordnet/nouns.tsv.xz

Debian's package `wordnet-base` has the files. One line per meaning: its kind, its words with the rank of the meaning
among all meanings of the word (equal for those that WordNet's texts do not have), its gloss, and the lines of its
hypernyms and parts. Lines that follow an empty line are irregular plurals with their singulars.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Iterator
from pathlib import Path

from recognizer.describing.wordnet.nouns import KINDS

_PROPER = " @i "  # marks an instance ("Eiffel Tower") instead of a kind
_PERSON = "18"  # thousands of instances, "Stephen Crane" among the birds


def table_lines(folder: Path) -> Iterator[str]:
    """Yield the lines of the table.

    Args:
        folder: with `data.noun`, `index.noun` and `noun.exc` of WordNet.
    """
    index = (folder / "index.noun").read_text(encoding="ascii").splitlines()
    ranks: dict[tuple[str, str], int] = {}
    for lemma, *fields in (line.split() for line in index if not line.startswith(" ")):
        offsets = [field for field in fields if len(field) == 8]
        tagged = int(fields[-len(offsets) - 1])
        ranks |= {(lemma, offset): min(rank, tagged + 1) for rank, offset in enumerate(offsets, 1)}
    kept: dict[str, tuple[str, list[str], str, list[str], list[str]]] = {}
    for line in (folder / "data.noun").read_text(encoding="ascii").splitlines():
        head, _, gloss = line.partition(" | ")
        if line.startswith(" "):
            continue
        offset, kind, _, count, *fields = head.split()
        if kind not in KINDS or (kind == _PERSON and _PROPER in head):
            continue
        size = 2 * int(count, 16)
        words = [f"{word}:{ranks[word.lower(), offset]}" for word in fields[:size:2]]
        pointers = list(zip(*(iter(fields[size + 1 :]),) * 4, strict=False))
        hypernyms, parts = (
            [target for symbol, target, *_ in pointers if symbol in wanted] for wanted in (("@", "@i"), ("%p",))
        )
        kept[offset] = (kind, words, gloss.split('; "')[0].strip(), hypernyms, parts)
    rows = {offset: str(row) for row, offset in enumerate(kept)}
    single = {word.rpartition(":")[0].lower() for _, words, *_ in kept.values() for word in words}
    for kind, words, gloss, *others in kept.values():
        targets = [" ".join(rows[target] for target in each if target in rows) for each in others]
        yield "\t".join([kind, " ".join(words), gloss, *targets])
    yield ""
    for line in (folder / "noun.exc").read_text(encoding="ascii").splitlines():
        plural, *singulars = line.split()
        if singulars[0] in single:
            yield f"{plural} {singulars[0]}"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    text = "".join(f"{line}\n" for line in table_lines(arguments.wordnet))
    arguments.output.write_bytes(lzma.compress(text.encode("ascii"), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
