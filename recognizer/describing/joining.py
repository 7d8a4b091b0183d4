"""Join the descriptions of a file to the categories of a label file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from memory import Category
from memory.errors import printable
from memory.labels import read_labels
from memory.merging import merge_categories
from memory.wording import counted
from recognizer.console import note


def read_descriptions(path: Path) -> Sequence[Category]:
    """Read a file of descriptions, in any format of label files; a JSON entry that cannot be read is left out and said.

    Raises:
        LabelError: it cannot be read, or none of its entries can.
    """
    labels = read_labels(path, key="name,group", skip_bad=True)
    for line in labels.notes:
        note(f"{path.name}: {line}")
    return labels.categories


def join_descriptions(
    categories: Sequence[Category], described: Sequence[Category], *, own: bool = True
) -> tuple[list[Category], str]:
    """Give categories the descriptions of equal name and group, or of equal name where the description has no group.

    Args:
        categories: of the label file; all else of them is kept.
        described: of the file of descriptions.
        own: whether categories keep the descriptions that they have, before the others.

    Returns:
        The categories, and a sentence about what fits and what does not.
    """
    by_key = {(each.name, each.group): each for each in described}
    joined, used = list[Category](), set[tuple[str, str]]()
    reached = 0
    for category in categories:
        keys = {(category.name, category.group), (category.name, "")} & by_key.keys()
        used |= keys
        texts = [text for key in sorted(keys, reverse=True) for text in by_key[key].descriptions]
        reached += bool(texts)
        kept = category if own else replace(category, descriptions=())
        joined += merge_categories([kept, replace(category, descriptions=tuple(texts))])
    missing = [name for name, group in by_key if (name, group) not in used]
    sentence = f"{reached} of {counted(len(categories), 'category')} described"
    if missing:
        sentence += f"; {counted(len(missing), 'name')} without a category, such as {printable(missing[0], 40)!r}"
    return joined, sentence
