"""What stands above the rows of a label file: groups that are paths, columns of ranks, or the parent of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from memory.errors import LabelError, printable
from memory.labels.names import clean_name
from memory.labels.rows import Examples, Labelling, LabelRow
from memory.lineage import join_levels, levels
from memory.wording import counted

MOST_LEVELS = 100
"""Of a chain of parents. No taxonomy has half as many, and the groups of a longer chain would fill the memory."""
_SHOWN_OF_CIRCLE = 5

Ranks = tuple[str, ...]


def with_groups(labelling: Labelling, path: Path, key: str, notes: list[str]) -> Iterator[LabelRow]:
    """Turn ranks and parents of rows into groups, and write every path of a group in the same way.

    A row that is the parent of others stays a category, and its confidence counts for what is below it, too.

    Args:
        labelling: of a label file; its rows are held only where they may have ranks or parents.
        path: the file, for messages.
        key: as in `read_labels`; with "name,group" equal names may have different parents.
        notes: gets sentences about what was repaired, and about names that stand in two places, once all rows are read.

    Yields:
        The rows.

    Raises:
        LabelError: parents form a circle, or a name has two.
    """
    rows = labelling.rows
    if labelling.has_lineage:
        held = list(rows)
        if any(row.ranks for row in held):
            held = _from_ranks(held, notes)
        if any(row.parent for row in held):
            held = _from_parents(held, path, key, notes)
        rows = held
    yield from _noting_two_places(_normalised(rows, notes), notes)


def _from_ranks(rows: Sequence[LabelRow], notes: list[str]) -> list[LabelRow]:
    """Join the ranks of each row to a group; one that is missing comes from another row with the same taxon below it.

    Columns that are empty in every row do not count.
    """
    used = [place for place, column in enumerate(zip(*(row.ranks for row in rows), strict=True)) if any(column)]
    ranks = [tuple(row.ranks[place] for place in used) for row in rows]
    above: dict[tuple[int, str], Ranks] = {}
    for own in ranks:
        for place, taxon in enumerate(own):
            if taxon and all(own[:place]):
                above.setdefault((place, taxon), own[:place])
    filled, missing = Examples(), Examples()
    grouped = []
    for row, own in zip(rows, ranks, strict=True):
        last = max((place for place, taxon in enumerate(own) if taxon), default=-1)
        if not all(own[: last + 1]):
            known = [place for place, taxon in enumerate(own) if taxon and (place, taxon) in above]
            if known and all(own[known[-1] :][: last + 1 - known[-1]]):
                own = above[known[-1], own[known[-1]]] + own[known[-1] :]
                filled.add(f"{printable(row.name)!r} ({row.place})")
            else:
                missing.add(f"{printable(row.name)!r} ({row.place})")
        grouped.append(replace(row, group=join_levels(taxon for taxon in own if taxon), ranks=()))
    if filled.count:
        notes.append(f"{counted(filled.count, 'row')} with an empty rank, filled from other rows: {filled}")
    if missing.count:
        notes.append(f"{counted(missing.count, 'row')} with an empty rank between others, left out: {missing}")
    return grouped


def _from_parents(rows: Sequence[LabelRow], path: Path, key: str, notes: list[str]) -> list[LabelRow]:
    """Follow the parents of each row to the top."""
    parents: dict[str, dict[str, LabelRow]] = {}
    for row in rows:
        own = parents.setdefault(clean_name(row.name), {})
        if row.parent:
            own.setdefault(clean_name(row.parent), row)
    inner = {parent: row for own in parents.values() for parent, row in own.items()}
    for name, own in parents.items():
        if len(own) > 1 and (key == "name" or name in inner):
            (one, first), (other, second), *_ = own.items()
            remedy = "Keep one of them" + (
                ", or pass --key name,group to make two categories of them" if name not in inner else ""
            )
            raise second.error(
                f"the name {printable(name)!r} has two parents: {printable(one)!r} ({first.place}) and "
                f"{printable(other)!r} ({second.place})",
                path,
                remedy,
            )
    if inner.keys() & parents.keys():
        undefined, both = Examples(), Examples()
        for parent, row in inner.items():
            if parent in parents:
                both.add(repr(printable(parent)))
            else:
                undefined.add(f"{printable(parent)!r} (of {printable(row.name)!r}, {row.place})")
        notes.append(f"{counted(both.count, 'row')} that others have as parent, categories as well: {both}")
        if undefined.count:
            notes.append(f"{counted(undefined.count, 'parent')} without a row, read as groups at the top: {undefined}")
    lineages: dict[str, tuple[str, ...]] = {}
    grouped = []
    for row in rows:
        parent = clean_name(row.parent)
        if not parent and key == "name":  # another row of the name has it
            parent = next(iter(parents[clean_name(row.name)]), "")
        above = _lineage(parent, parents, lineages, path) if parent else ()
        grouped.append(replace(row, group=join_levels(above), parent=""))
    return grouped


def _lineage(
    name: str, parents: Mapping[str, Mapping[str, LabelRow]], lineages: dict[str, tuple[str, ...]], path: Path
) -> tuple[str, ...]:
    """Return a name and what is above it, from the top; `lineages` keeps what was found."""
    chain = [name]
    while chain[-1] not in lineages and (above := next(iter(parents.get(chain[-1], ())), None)) is not None:
        if above in chain:
            circle = chain[chain.index(above) :][:_SHOWN_OF_CIRCLE]
            told = " has the parent ".join(repr(printable(each)) for each in [*circle, above])
            raise _error(f"parents form a circle: {told}", parents[chain[-1]][above], path)
        chain.append(above)
        if len(chain) + len(lineages.get(above, ())) > MOST_LEVELS:
            raise _error(f"there are more than {MOST_LEVELS} levels of parents", parents[chain[-2]][above], path)
    found = lineages.get(chain[-1], (chain[-1],))
    lineages[chain[-1]] = found
    for each in reversed(chain[:-1]):
        found = (*found, each)
        lineages[each] = found
    return found


def _error(message: str, row: LabelRow, path: Path) -> LabelError:
    return row.error(message, path, "Correct the parent of one of the names")


def _normalised(rows: Iterable[LabelRow], notes: list[str]) -> Iterator[LabelRow]:
    changed = Examples()
    for row in rows:
        group = join_levels(levels(clean_name(row.group)))
        if group.count(">") != row.group.count(">"):
            changed.add(f"{printable(row.group)!r} ({row.place}), read as {printable(group)!r}")
        yield row if group == row.group else replace(row, group=group)
    if changed.count:
        notes.append(f"{counted(changed.count, 'group')} with empty levels, which are left out: {changed}")


def _noting_two_places(rows: Iterable[LabelRow], notes: list[str]) -> Iterator[LabelRow]:
    """Note the names of groups that stand below two others, as of a slip in one row; they are different groups."""
    seen: dict[str, tuple[tuple[str, ...], str]] = {}
    double: dict[str, str] = {}
    for row in rows:
        path = levels(row.group)
        for place, name in enumerate(path):
            above, first = seen.setdefault(name, (path[:place], row.place))
            if above != path[:place]:
                one, other = (printable(join_levels(each)) or "the top" for each in (above, path[:place]))
                places = f"{one!r} ({first}) and {other!r} ({row.place})"
                double.setdefault(name, f"{printable(name)!r} under {places}")
        yield row
    if double:
        shown = Examples()
        for sentence in double.values():
            shown.add(sentence)
        notes.append(f"{counted(shown.count, 'name')} of groups in two places, which are two groups: {shown}")
