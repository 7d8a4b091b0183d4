"""What the columns of a table of labels hold, by their titles, and the label row that the cells of one row make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memory.errors import printable
from memory.labels.cells import BLANK
from memory.labels.rows import LabelFile, LabelRow, first_repeated, make_description
from memory.labels.text import HEADER_WORDS
from memory.lineage import RANKS

_ROLES = {
    "group": "group",
    "description": "description",
    "descriptions": "descriptions",
    "aliases": "aliases",
    "synonyms": "aliases",
    "parent": "parent",
}
"""What a column of this title, in lower case, holds; the others are metadata."""
_SEVERAL = ("descriptions", "aliases")  # texts in one cell
TAXON_NAMES = ("scientificname", "commonname", "vernacularname", "scientific_name", "common_name", "vernacular_name")
OPEN_IMAGES = ("labelname", "displayname")
"""Titles, in lower case, of Open Images' class-descriptions file, since version 6."""

Cell = str | list[str]
"""A text as it stands in the table, or the texts of a list, without blanks around them and without empty ones."""


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """What each column of a table holds.

    Attributes:
        titles: of all columns.
        roles: "name", "group", "description", "descriptions", "aliases" or "parent"; None: metadata.
        ranks: places of the ranks of a taxonomy, from the top.
        kind: what is said of the table beside its format.
    """

    titles: Sequence[str]
    roles: Sequence[str | None]
    ranks: Sequence[int]
    kind: str

    @property
    def has_lineage(self) -> bool:
        """Whether a row may have a parent or ranks."""
        return bool(self.ranks) or "parent" in self.roles


def find_columns(file: LabelFile, titles: Sequence[str], line: int | None = None) -> LabelColumns:
    """Find what the columns of these titles hold.

    Columns: ``name`` (or the one that the user names), and optionally ``description``, ``descriptions``, ``group``,
    ``aliases`` and ``synonyms``; every other column is metadata. Without a ``group``, the columns of a taxonomy
    (kingdom to species) are the group, and without those ``parent``, the name of another row.

    Args:
        file: the label file; where it has no header, the first column has the names.
        titles: of the columns.
        line: of the header; None in a table that always has titles.

    Raises:
        LabelError: no column of names, or two columns of one title.
    """
    lower = [title.lower() for title in titles]
    double = first_repeated(
        low if low in _ROLES or low == "name" else title for low, title in zip(lower, titles, strict=True)
    )
    if double is not None:
        raise file.error(f"two columns are called {printable(double)!r}", "Rename one of them", line=line)
    places = {title: place for place, title in enumerate(lower)} | {title: place for place, title in enumerate(titles)}
    ranks = [places[rank] for rank in RANKS if rank in places]
    # An order or a class alone may be anything; a family beside another rank, or three ranks, are a taxonomy.
    is_taxonomy = len(ranks) >= 3 or ("family" in places and len(ranks) >= 2)
    kind = ""
    if file.name_column is None and "name" not in places and tuple(lower) == OPEN_IMAGES:
        name, kind = 1, " of Open Images"
    else:
        name = _name_column(file, titles, places, is_taxonomy, line)
    if file.name_column is not None:
        kind = f", names in the column {printable(titles[name])!r}"
    if is_taxonomy and "group" not in places:
        ranks, kind = [rank for rank in ranks if rank != name], f" with a taxonomy as the group{kind}"
    else:
        ranks = []
    roles = [_ROLES.get(title) for title in lower]
    if ranks or "group" in places:
        roles = [None if role == "parent" else role for role in roles]
    roles[name] = "name"
    return LabelColumns(titles, roles, ranks, kind)


def _name_column(
    file: LabelFile, titles: Sequence[str], places: dict[str, int], is_taxonomy: bool, line: int | None
) -> int:
    """Return the place of the column of names."""
    shown = ", ".join(repr(printable(title)) for title in titles[:12]) or "none"
    if file.name_column is not None:
        name = places.get(file.name_column, places.get(file.name_column.lower()))
        if name is None:
            raise file.error(
                f"there is no column {printable(file.name_column)!r}; the columns are {shown}",
                "Name one of these with --name-column",
                line=line,
            )
        return name
    if line is not None and file.header is False:
        return 0
    if "name" in places:
        return places["name"]
    candidates = [title for title in titles if title.lower() in TAXON_NAMES] if is_taxonomy else []
    if len(candidates) == 1:
        return places[candidates[0]]
    guess = next((t for t in (*candidates, *titles) if t in candidates or t.lower() in HEADER_WORDS), "COLUMN")
    others = (
        "; or pass --format text for a file with one name per line, or --header no for a table without a header"
        if line is not None
        else ""
    )
    raise file.error(
        f"the {'header' if line is not None else 'table'} has no 'name' column; its columns are {shown}",
        f"Say which one holds the names, such as --name-column {printable(guess)}{others}",
        line=line,
    )


def label_row(
    file: LabelFile, columns: LabelColumns, cells: Sequence[Cell], *, line: int | None = None, row: int | None = None
) -> LabelRow:
    """Make a label row of the cells of a table.

    Several texts in one cell of ``descriptions``, ``aliases`` or ``synonyms`` stand in a list, or have semicolons
    between them.

    Args:
        file: the label file.
        columns: of the table.
        cells: no more than there are columns.
        line: 1-based line of the file.
        row: 1-based row of a table without lines.

    Raises:
        LabelError: no name, or a description that cannot be stored.
    """
    roles: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    metadata: dict[str, str] = {}
    for title, role, cell in zip(columns.titles, columns.roles, cells, strict=False):
        if isinstance(cell, list) or role in _SEVERAL:
            if role is not None:  # two columns may have aliases
                lists[role] = [*lists.get(role, ()), *_parts(cell)]
        elif role is not None:
            roles[role] = cell.strip(BLANK)
        elif cell.strip(BLANK):
            metadata[title] = cell
    where = None if row is None else f"row {row}"
    name = roles.get("name", "")
    if not name:
        if where is not None:
            where += f", column {printable(columns.titles[columns.roles.index('name')])!r}"
        raise file.error("the row has no name", "Fill the name column, or delete the row", line=line, where=where)
    single = roles.get("description", "")
    texts = [*([single] if single else lists.get("description", ())), *lists.get("descriptions", ())]
    ranks = (cells[place] if place < len(cells) else "" for place in columns.ranks)
    return LabelRow(
        name,
        roles.get("group", ""),
        [make_description(file, text, "attribute", file.path.name, line=line, where=where) for text in texts],
        metadata,
        aliases=lists.get("aliases", ()),
        line=line,
        row=row,
        parent=roles.get("parent", ""),
        ranks=tuple(rank.strip(BLANK) if isinstance(rank, str) else "" for rank in ranks),
    )


def is_blank(cell: Cell) -> bool:
    """Say whether a cell has nothing."""
    return not (cell.strip(BLANK) if isinstance(cell, str) else cell)


def _parts(cell: Cell) -> list[str]:
    if isinstance(cell, list):
        return cell
    return [part for text in cell.split(";") if (part := text.strip(BLANK))]
