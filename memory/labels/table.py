"""Label files with columns: CSV and TSV with a header line."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from memory.labels.rows import LabelFile, LabelRow, make_description

_DELIMITERS = {"csv": ",;", "tsv": "\t"}
_BLANK = " \t\r"
_COLUMNS = ("name", "group", "description", "descriptions")


def header_delimiter(file: LabelFile) -> str | None:
    """Return the delimiter of the header line; None when the first line does not have a ``name`` column and others."""
    first = next((line for line in file.lines() if line.strip()), "")
    for delimiter in "\t,;":
        cells = [cell.strip(_BLANK + '"').lower() for cell in first.split(delimiter)]
        if len(cells) > 1 and "name" in cells:
            return delimiter
    return None


def table_rows(file: LabelFile, format: str) -> Iterator[LabelRow]:
    """Yield the rows of a table.

    Columns: ``name``, and optionally ``description``, ``descriptions`` and ``group``; every other column is metadata.
    Write several descriptions of a category in several rows, or in ``descriptions``, separated by semicolons.

    Args:
        file: the label file.
        format: "csv" (comma or semicolon) or "tsv".

    Raises:
        LabelError: no ``name`` column, an unclosed quote, a row with more cells than the header, a row without a name.
    """
    delimiter = header_delimiter(file)
    if delimiter is None or delimiter not in _DELIMITERS[format]:
        delimiter = _DELIMITERS[format][0]
    lines = _split(file, delimiter)
    header_line, cells = next(lines)
    header = _header(file, header_line, cells)
    for line, cells in lines:
        if not any(cell.strip(_BLANK) for cell in cells):
            continue
        if len(cells) > len(header):
            raise file.error(
                f"the row has {len(cells)} cells, the header {len(header)}",
                "Put quotes around a cell that contains the delimiter",
                line=line,
            )
        yield _row(file, line, dict(zip(header, cells, strict=False)))


def _row(file: LabelFile, line: int, cells: dict[str, str]) -> LabelRow:
    name = cells.pop("name", "").strip(_BLANK)
    group = cells.pop("group", "").strip(_BLANK)
    texts = [text.strip(_BLANK) for text in (cells.pop("description", ""), *cells.pop("descriptions", "").split(";"))]
    if not name:
        raise file.error("the row has no name", "Fill the name column, or delete the row", line=line)
    descriptions = [make_description(file, text, "attribute", file.path.name, line=line) for text in texts if text]
    metadata = {key: value for key, value in cells.items() if value.strip(_BLANK)}
    return LabelRow(name, group, descriptions, metadata, line=line)


def _header(file: LabelFile, line: int, cells: list[str]) -> list[str]:
    header = [cell.strip(_BLANK) for cell in cells]
    header = [cell.lower() if cell.lower() in _COLUMNS else cell for cell in header]
    if "name" not in header:
        raise file.error(
            f"the header has no 'name' column; its columns are {', '.join(map(repr, header[:8]))}",
            "Add a header line with a column 'name', or pass --format text for a file with one name per line",
            line=line,
        )
    double = next((cell for i, cell in enumerate(header) if cell in header[:i]), None)
    if double is not None:
        raise file.error(f"two columns are called {double!r}", "Rename one of them", line=line)
    return header


def _split(file: LabelFile, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its first line."""
    reader = csv.reader(io.StringIO(file.text, newline="\n"), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            with _large_fields():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = " (a quote that opens here is never closed)" if "unexpected end" in str(error) else ""
            raise file.error(
                f"the table cannot be read from here: {error}{end}",
                "Close the quote; a quote inside a quoted cell is written twice",
                line=line,
            ) from error
        if cells:
            yield line, cells


@contextmanager
def _large_fields() -> Iterator[None]:
    """Remove the limit of 131,072 characters per cell for one call; it is a setting of the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
