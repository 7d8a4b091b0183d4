"""Groups from WordNet: what each category is a kind of, in the meaning that fits the other categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from memory import Category
from memory.errors import printable
from memory.lineage import join_levels
from memory.templates import prompt_name
from memory.wording import counted
from recognizer.describing.sources import wordnet_senses
from recognizer.describing.wordnet.nouns import Nouns, Sense, nouns

if TYPE_CHECKING:
    from recognizer.encoder import Encoder

Node = int | str
"""A row of the table, or its kind, which stands above all rows of the kind."""


def with_hypernyms(categories: Sequence[Category], encoder: Encoder) -> tuple[list[Category], str]:
    """Give every category without a group the path of its hypernyms.

    Of several hypernyms of a meaning the first one counts, so that the result is a tree. Levels that join nothing are
    left out: those with one category, and those with the same categories as the level below them. A group that is named
    like a category, as one that other categories are kinds of, is called "any whale", so that a label tells which.

    Args:
        categories: of one label file; those with a group keep it.
        encoder: whose text encoder chooses the meanings.

    Returns:
        The categories, and a sentence about how many have a path now.
    """
    table = nouns()
    senses = wordnet_senses(categories, encoder)
    bare = [place for place, category in enumerate(categories) if not category.group]
    chains: dict[int, list[Node]] = {}
    names: dict[Node, str] = {}
    for place in bare:
        sense = senses[place]
        if sense is None:
            continue
        chains[place] = _chain(sense, table)
        if _is_whole(categories[place], table):  # others may be a kind of it, so it is the node itself
            names.setdefault(sense.row, categories[place].name)
    counts = Counter(node for chain in chains.values() for node in chain)
    grouped = list(categories)
    taken = {category.name.casefold() for category in categories}
    for place, chain in chains.items():
        sizes = [*(counts[node] for node in chain), 1]
        kept = [node for node, size, below in zip(chain, sizes, sizes[1:], strict=False) if size > below]
        words = (names.get(node) or _word(node, table) for node in kept)
        path = [f"any {word}" if word.casefold() in taken else word for word, _ in groupby(words)]
        grouped[place] = replace(categories[place], group=join_levels(path))
    return grouped, _summary(bare, chains, categories)


def _chain(sense: Sense, table: Nouns) -> list[Node]:
    """Return what a meaning is a kind of, from the top, and its own row.

    Hypernyms of another kind are left out: that some food is a kind of solid says nothing about what it looks like.
    """
    kind = sense.kind
    chain: list[Node] = []
    while sense.kind == kind:
        chain.append(sense.row)
        if not sense.hypernyms:
            break
        sense = table.sense(sense.hypernyms[0])
    return [kind, *reversed(chain)]


def _is_whole(category: Category, table: Nouns) -> bool:
    """Tell whether all of a name is the noun that was found, not its head alone."""
    name = prompt_name(category.name)
    entry = table.find(name)
    return entry is not None and entry.words.lower() == name.lower()


def _word(node: Node, table: Nouns) -> str:
    return node if isinstance(node, str) else table.sense(node).words[0]


def _summary(bare: Sequence[int], found: Container[int], categories: Sequence[Category]) -> str:
    missing = [categories[place].name for place in bare if place not in found]
    sentence = f"WordNet: hypernyms of {len(bare) - len(missing)} of {counted(len(categories), 'category')}"
    if len(bare) < len(categories):
        sentence += f"; {len(categories) - len(bare)} keep the group of the label file"
    if missing:
        sentence += f"; not found: {counted(len(missing), 'name')}, such as {printable(missing[0])!r}"
    return sentence
