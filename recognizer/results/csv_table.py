"""Results as CSV: one line an image and rank."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from recognizer.results.atomic_file import replacing
from recognizer.results.tables import CSV_COLUMNS, csv_record, flatten_row, read_rows


class CsvLines:
    """Writes rows as lines of CSV to a text stream opened with ``newline=""``."""

    def __init__(self, stream: IO[str]) -> None:
        """Write the header."""
        self._writer = csv.writer(stream, lineterminator="\r\n")  # with "\n" it leaves a lone "\r" unquoted
        self._writer.writerow(CSV_COLUMNS)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, given as plain JSON values."""
        for row in rows:
            self._writer.writerows(csv_record(record) for record in flatten_row(row))


def write_csv(journal: Path, output: Path) -> None:
    """Convert a journal to CSV, row by row.

    Texts that a spreadsheet would take for a formula get a leading ``'``.

    Args:
        journal: the finished journal.
        output: the CSV file, UTF-8, replaced when complete.

    Raises:
        OutputUnusable: the disk refuses.
    """
    with replacing(output) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        CsvLines(stream).write(read_rows(journal))
