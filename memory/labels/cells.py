"""Tables as text: the delimiter, the titles and the rows of CSV and TSV, whatever their columns mean."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from memory.labels.rows import LabelFile
from memory.labels.text import is_comment

BLANK = " \t\r"
DELIMITERS = "\t,;"


def delimiter_by_titles(file: LabelFile, titles: Collection[str]) -> str | None:
    """Return the delimiter of the first line if that is a header with one of these titles, in lower case; else None."""
    first = first_line(file)
    for delimiter in DELIMITERS:
        cells = [cell.strip(BLANK + '"').lower() for cell in first.split(delimiter)]
        if len(cells) > 1 and any(cell in titles for cell in cells):
            return delimiter
    return None


def delimiter_by_count(file: LabelFile, delimiters: str = DELIMITERS) -> str:
    """Return the delimiter that the first line has most of; the first one if it has none."""
    return max(delimiters, key=first_line(file).count)


def first_line(file: LabelFile) -> str:
    """Return the first line that is neither blank nor a comment; empty if there is none."""
    return next((line for line in file.lines() if line.strip() and not is_comment(line)), "")


def read_titles(cells: Sequence[str]) -> list[str]:
    """Return the titles of a header line without blanks and without the empty columns that spreadsheets add."""
    titles = [cell.strip(BLANK) for cell in cells]
    while titles and not titles[-1]:
        titles.pop()
    return titles


def without_empty_end(cells: Sequence[str], titles: Sequence[str]) -> Sequence[str]:
    """Return the cells of a row without the empty ones beyond the last title."""
    while len(cells) > len(titles) and not cells[-1].strip(BLANK):
        cells = cells[:-1]
    return cells


def split_rows(file: LabelFile, delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield the rows that are not empty, each with the number of its first line; comments before them are left out.

    A row that cannot be read is an error, and the rows after it follow.
    """
    started = False
    with file.stream() as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                with _large_fields():
                    cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, error
                continue
            if cells and (started or not is_comment(cells[0])):
                started = True
                yield line, cells


@contextmanager
def _large_fields() -> Iterator[None]:
    """Remove the limit of 131,072 characters per cell for one call; it is a setting of the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
