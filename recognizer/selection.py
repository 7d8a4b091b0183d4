"""Which categories of a memory compete in a run: `--only` and `--without`."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from memory import Category, Memory, read_labels
from memory.errors import printable
from recognizer.errors import RecognizerError
from recognizer.score import Rows

_MOST_UNKNOWN = 5  # named in a message; the others are counted


class SelectionError(RecognizerError):
    """A category that was named is not in the memory, or none is left."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some categories of a memory.

    Attributes:
        rows: (n,) their rows, ascending, at least one.
        sha256: hex digest over their ids, by which a resumed run sees that they are the same.
    """

    rows: Rows
    sha256: str


def select_categories(memory: Memory, only: Sequence[str] = (), without: Sequence[str] = ()) -> Selection | None:
    """Choose categories by name.

    Args:
        memory: an opened one.
        only: each the name or an alias of a category, or else a label file with names; empty: all categories.
        without: likewise, taken away from those.

    Returns:
        The categories; None where they are all of the memory.

    Raises:
        SelectionError: a name is not in the memory, or no category is left.
        LabelError: a file cannot be read as labels.
    """
    categories = memory.vectors.categories
    chosen = _rows(categories, only, "--only") if only else set(range(len(categories)))
    rows = sorted(chosen - _rows(categories, without, "--without"))
    if len(rows) == len(categories):
        return None
    if not rows:
        raise SelectionError("no category is left; name fewer with --without, or others with --only")
    digest = hashlib.sha256("\n".join(categories[row].id for row in rows).encode()).hexdigest()
    return Selection(np.asarray(rows, np.int64), digest)


def _rows(categories: Sequence[Category], wanted: Sequence[str], option: str) -> set[int]:
    """Return the rows of all categories that the names and files name."""
    by_name = rows_by_name(categories)
    rows: set[int] = set()
    unknown: list[str] = []
    for each in wanted:
        if each in by_name:
            rows |= by_name[each]
            continue
        if not Path(each).exists():
            unknown.append(each)
            continue
        for label in read_labels(each):
            found = {row for row in by_name.get(label.name, ()) if label.group in ("", categories[row].group)}
            rows |= found
            if not found:
                unknown.append(f"{label.name} ({label.group})" if label.group else label.name)
    if unknown:
        some = ", ".join(repr(printable(name)) for name in islice(by_name, _MOST_UNKNOWN))
        has_list = any("," in each and each in unknown for each in wanted)
        hint = f". For several categories repeat {option}, once for each name" if has_list else ""
        raise SelectionError(f"{unknown_names(unknown, by_name)}{hint}. The memory has, for example, {some}")
    return rows


def rows_by_name(categories: Sequence[Category]) -> dict[str, set[int]]:
    """Return the rows of the categories that have a name, by each name and alias."""
    by_name: dict[str, set[int]] = {}
    for row, category in enumerate(categories):
        for name in (category.name, *category.aliases):
            by_name.setdefault(name, set()).add(row)
    return by_name


def unknown_names(unknown: Sequence[str], known: Iterable[str]) -> str:
    """Say which names are not in the memory, the first with the nearest known name."""
    known = list(known)
    shown = "; ".join(_suggestion(name, known) for name in unknown[:_MOST_UNKNOWN])
    more = len(unknown) - _MOST_UNKNOWN
    return f"not in the memory: {shown}" + (f"; and {more} more" if more > 0 else "")


def _suggestion(name: str, known: Sequence[str]) -> str:
    folded = {each.casefold(): each for each in known}
    nearest = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f" (did you mean {printable(folded[nearest[0]])!r}?)" if nearest else ""
    return f"{printable(name)!r}{hint}"
