"""The ranks of groups, such as family or genus, where a label file had columns of them; and what groups there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memory import Category
from memory.lineage import RANKS, join_levels, levels
from memory.wording import counted


def ranks_of_groups(categories: Iterable[Category]) -> dict[str, str]:
    """Return the rank of each group by its path, as far as it is known.

    A label file's columns of ranks stay in the metadata of its categories; a level of a group is the first column below
    the level above it that holds the same name. A rank that a row lacks is known by the other rows of the group.
    """
    ranks: dict[str, str] = {}
    for category in categories:
        values = {title.lower(): value.strip() for title, value in category.metadata.items()}
        columns = [rank for rank in RANKS if rank in values]
        path = levels(category.group)
        for length, name in enumerate(path, start=1):
            rank = next((each for each in columns if values[each] == name), None)
            if rank is not None:
                columns = columns[columns.index(rank) + 1 :]
                ranks.setdefault(join_levels(path[:length]), rank)
    return ranks


def ranks_above(category: Category, ranks: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return the rank of each level of a category's group, from the top; empty where none is known.

    Args:
        category: of a memory.
        ranks: as from `ranks_of_groups`.
    """
    if not ranks:
        return ()
    path = levels(category.group)
    found = tuple(ranks.get(join_levels(path[:length])) for length in range(1, len(path) + 1))
    return found if any(found) else ()


def group_summary(categories: Sequence[Category]) -> dict[str, Any]:
    """Return how many groups there are, on how many levels, their ranks from the top, and the categories with one."""
    paths = [levels(category.group) for category in categories if category.group]
    ranks = {*ranks_of_groups(categories).values()}
    return {
        "groups": len({path[:length] for path in paths for length in range(1, len(path) + 1)}),
        "depth": max(map(len, paths), default=0),
        "ranks": [rank for rank in RANKS if rank in ranks],
        "categories": len(paths),
    }


def shown_groups(groups: Mapping[str, Any]) -> str:
    """Say in words what `group_summary` found."""
    if not groups["groups"]:
        return "none"
    named = f", ranks {' > '.join(groups['ranks'])}" if groups["ranks"] else ""
    return (
        f"{counted(groups['groups'], 'group')} on {counted(groups['depth'], 'level')}{named}, above "
        f"{counted(groups['categories'], 'category')}"
    )
