"""Label files with one name per line."""

from __future__ import annotations

from collections.abc import Iterator

from memory.label_rows import LabelFile, LabelRow


def text_rows(file: LabelFile) -> Iterator[LabelRow]:
    """Yield a row for every line that is not blank; space around a name does not belong to it."""
    for number, line in enumerate(file.lines(), start=1):
        name = line.strip(" \t\r")
        if name:
            yield LabelRow(name, line=number)
