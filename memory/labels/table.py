"""Label files with columns: CSV and TSV, with a header line or without."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain

from memory.labels.cells import (
    delimiter_by_count,
    delimiter_by_titles,
    read_titles,
    split_rows,
    without_empty_end,
)
from memory.labels.roles import OPEN_IMAGES, TAXON_NAMES, find_columns, is_blank, label_row
from memory.labels.rows import LabelFile, Labelling, LabelRow
from memory.labels.text import HEADER_WORDS

_DELIMITERS = {"csv": ",;", "tsv": "\t"}


def header_delimiter(file: LabelFile) -> str | None:
    """Return the delimiter of the header line; None when the first line does not look like a header of columns."""
    if file.header is False:
        return None
    wanted = {file.name_column.lower()} if file.name_column else {"name", *HEADER_WORDS, *TAXON_NAMES, *OPEN_IMAGES}
    return delimiter_by_titles(file, wanted)


def read_table(file: LabelFile, format: str) -> Labelling:
    """Read a table, whose columns are those of `find_columns`.

    Write several descriptions of a category in several rows, or in ``descriptions``, separated by semicolons, like
    ``aliases``. Without a header, columns are called "1", "2" and so on, and the first has the names.

    Args:
        file: the label file.
        format: "csv" (comma or semicolon) or "tsv".

    Raises:
        LabelError: no column of names, an unclosed quote, a row with more cells than the header, a row without a name.
    """
    lines = _rows(file, _delimiter(file, format))
    line, cells = next(lines, (1, []))
    titles = [str(number) for number in range(1, len(cells) + 1)] if file.header is False else read_titles(cells)
    columns = find_columns(file, titles, line)
    first = [(line, cells)] if file.header is False else []

    def rows() -> Iterator[LabelRow]:
        for line, cells in chain(first, lines):
            if all(map(is_blank, cells)):
                continue
            row = without_empty_end(cells, columns.titles)
            if len(row) > len(columns.titles):
                raise file.error(
                    f"the row has {len(row)} cells, the header {len(columns.titles)}",
                    "Put quotes around a cell that contains the delimiter",
                    line=line,
                )
            yield label_row(file, columns, row, line=line)

    return Labelling(f"{format.upper()}{columns.kind}", rows(), columns.has_lineage)


def _delimiter(file: LabelFile, format: str) -> str:
    known = header_delimiter(file)
    if known is not None and known in _DELIMITERS[format]:
        return known
    return delimiter_by_count(file, _DELIMITERS[format])


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
