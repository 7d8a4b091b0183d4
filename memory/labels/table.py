"""Label files with columns: CSV and TSV, with a header line or without."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from memory.errors import printable
from memory.labels.cells import (
    BLANK,
    delimiter_by_count,
    delimiter_by_titles,
    read_titles,
    split_rows,
    without_empty_end,
)
from memory.labels.rows import LabelFile, Labelling, LabelRow, first_repeated, make_description
from memory.labels.text import HEADER_WORDS
from memory.lineage import RANKS

_DELIMITERS = {"csv": ",;", "tsv": "\t"}
_ROLES = {
    "group": "group",
    "description": "description",
    "descriptions": "descriptions",
    "aliases": "aliases",
    "synonyms": "aliases",
    "parent": "parent",
}
"""What a column of this title, in lower case, holds; the others are metadata."""
_TAXON_NAMES = ("scientificname", "commonname", "vernacularname", "scientific_name", "common_name", "vernacular_name")
# Open Images' class-descriptions file, since version 6.
_OPEN_IMAGES = ("labelname", "displayname")


def header_delimiter(file: LabelFile) -> str | None:
    """Return the delimiter of the header line; None when the first line does not look like a header of columns."""
    if file.header is False:
        return None
    wanted = {file.name_column.lower()} if file.name_column else {"name", *HEADER_WORDS, *_TAXON_NAMES, *_OPEN_IMAGES}
    return delimiter_by_titles(file, wanted)


def read_table(file: LabelFile, format: str) -> Labelling:
    """Read a table.

    Columns: ``name`` (or the one that the user names), and optionally ``description``, ``descriptions``, ``group`` and
    ``aliases``; every other column is metadata. Write several descriptions of a category in several rows, or in
    ``descriptions``, separated by semicolons, like ``aliases``. Without a ``group``, the columns of a taxonomy
    (kingdom to species) are the group, and without those ``parent``, the name of another row. Without a header, columns
    are called "1", "2" and so on, and the first has the names.

    Args:
        file: the label file.
        format: "csv" (comma or semicolon) or "tsv".

    Raises:
        LabelError: no column of names, an unclosed quote, a row with more cells than the header, a row without a name.
    """
    lines = _rows(file, _delimiter(file, format))
    line, cells = next(lines, (1, []))
    titles = [str(number) for number in range(1, len(cells) + 1)] if file.header is False else read_titles(cells)
    columns = _columns(file, line, titles)
    first = [(line, cells)] if file.header is False else []

    def rows() -> Iterator[LabelRow]:
        for line, cells in chain(first, lines):
            if any(cell.strip(BLANK) for cell in cells):
                yield _row(file, line, cells, columns)

    return Labelling(f"{format.upper()}{columns.kind}", rows(), has_lineage=bool(columns.ranks) or columns.has_parents)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The titles of a table, the places of its names and ranks, and what is said of it beside CSV or TSV."""

    titles: Sequence[str]
    name: int
    ranks: Sequence[int]
    kind: str
    has_parents: bool = False


def _delimiter(file: LabelFile, format: str) -> str:
    known = header_delimiter(file)
    if known is not None and known in _DELIMITERS[format]:
        return known
    return delimiter_by_count(file, _DELIMITERS[format])


def _columns(file: LabelFile, line: int, titles: Sequence[str]) -> _Columns:
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
    shown = ", ".join(repr(printable(title)) for title in titles[:12])
    if file.name_column is not None:
        name = places.get(file.name_column, places.get(file.name_column.lower()))
        if name is None:
            raise file.error(
                f"there is no column {printable(file.name_column)!r}; the columns are {shown}",
                "Name one of these with --name-column",
                line=line,
            )
    elif file.header is False:
        name = 0
    else:
        name = places.get("name")
        if name is None and tuple(lower) == _OPEN_IMAGES:
            return _Columns(titles, 1, (), " of Open Images")
        candidates = [title for title in titles if title.lower() in _TAXON_NAMES] if is_taxonomy else []
        if name is None and len(candidates) == 1:
            name = places[candidates[0]]
        if name is None:
            guess = next((t for t in (*candidates, *titles) if t in candidates or t.lower() in HEADER_WORDS), "COLUMN")
            raise file.error(
                f"the header has no 'name' column; its columns are {shown}",
                f"Say which one holds the names, such as --name-column {printable(guess)}; or pass --format text for "
                "a file with one name per line, or --header no for a table without a header",
                line=line,
            )
    has_group = "group" in places
    kind = f", names in the column {printable(titles[name])!r}" if file.name_column else ""
    if is_taxonomy and not has_group:
        return _Columns(titles, name, [r for r in ranks if r != name], f" with a taxonomy as the group{kind}")
    return _Columns(titles, name, (), kind, "parent" in places and not has_group)


def _row(file: LabelFile, line: int, cells: Sequence[str], columns: _Columns) -> LabelRow:
    cells = without_empty_end(cells, columns.titles)
    if len(cells) > len(columns.titles):
        raise file.error(
            f"the row has {len(cells)} cells, the header {len(columns.titles)}",
            "Put quotes around a cell that contains the delimiter",
            line=line,
        )
    roles: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for place, (title, cell) in enumerate(zip(columns.titles, cells, strict=False)):
        role = "name" if place == columns.name else _ROLES.get(title.lower())
        if role is not None and (role != "parent" or columns.has_parents):
            roles[role] = cell
        elif cell.strip(BLANK):
            metadata[title] = cell
    name = roles.get("name", "").strip(BLANK)
    if not name:
        raise file.error("the row has no name", "Fill the name column, or delete the row", line=line)
    texts = [roles.get("description", "").strip(BLANK), *_parts(roles.get("descriptions", ""))]
    return LabelRow(
        name,
        roles.get("group", "").strip(BLANK),
        [make_description(file, text, "attribute", file.path.name, line=line) for text in texts if text],
        metadata,
        aliases=_parts(roles.get("aliases", "")),
        line=line,
        parent=roles.get("parent", "").strip(BLANK),
        ranks=tuple(cells[place].strip(BLANK) if place < len(cells) else "" for place in columns.ranks),
    )


def _parts(cell: str) -> list[str]:
    return [part for text in cell.split(";") if (part := text.strip(BLANK))]


def _rows(file: LabelFile, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with their line numbers; one that cannot be read raises a LabelError."""
    for line, cells in split_rows(file, delimiter):
        if isinstance(cells, csv.Error):
            end = " (a quote that opens here is never closed)" if "unexpected end" in str(cells) else ""
            raise file.error(
                f"the table cannot be read from here: {cells}{end}",
                "Close the quote; a quote inside a quoted cell is written twice",
                line=line,
            ) from cells
        yield line, cells
