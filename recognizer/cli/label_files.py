"""Label files as commands read them: what was understood is said."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from memory.wording import counted
from recognizer.cli.options import Aliases, YesNo
from recognizer.console import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memory import Category
    from memory.labels import Labels

PROMPTS_SHOWN = 3


def read_label_file(
    path: Path, format: str, key: str, header: YesNo | None, name_column: str | None, aliases: Aliases | None
) -> Labels:
    """Read the categories, and say which format they had, what was changed, and how names are prompted."""
    from memory import read_labels
    from memory.errors import printable

    labels = read_labels(
        path,
        format=format,
        key=key,
        header=None if header is None else header is YesNo.yes,
        name_column=name_column,
        aliases=aliases.value if aliases else None,
    )
    note(str(labels))
    for sentence in labels.notes:
        note(f"note: {sentence}")
    examples, others = [], prompted_names(labels)
    for name, texts in islice(others, PROMPTS_SHOWN):
        examples.append(f"{printable(name, 40)!r} as {' | '.join(printable(text, 40) for text in texts)!r}")
    if examples:
        count = len(examples) + sum(1 for _ in others)
        note(f"prompted as words: {count} of {counted(len(labels), 'name')}, such as {', '.join(examples)}")
    return labels


def prompted_names(categories: Iterable[Category]) -> Iterator[tuple[str, list[str]]]:
    """Yield each name that is prompted otherwise than it is shown, or under several names, with the texts for it."""
    from memory.templates import prompt_names

    for category in categories:
        texts = list(prompt_names(category))
        if texts != [category.name]:
            yield category.name, texts
