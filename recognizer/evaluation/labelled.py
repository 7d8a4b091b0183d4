"""Images whose category is known: an ImageFolder, or a CSV of path and label."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memory import Category
from memory.errors import printable, printable_path
from memory.templates import prompt_name
from recognizer.console import note
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem, list_images

if TYPE_CHECKING:
    from _csv import Reader as _Reader

_MOST_NAMED = 5  # bad lines in one message


class LabelledSetError(RecognizerError):
    """A labelled set is empty, of another shape, or has no label that the memory knows."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        items: (N) the images.
        labels: (N) their labels, as written.
    """

    items: Sequence[ImageItem]
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Labelled images whose label names a category.

    Attributes:
        items: (N) the images.
        rows: (N) row of each one's category.
        unmatched: labels that name no category, with the number of their images.
    """

    items: Sequence[ImageItem]
    rows: Sequence[int]
    unmatched: dict[str, int]


def read_labelled(path: Path) -> LabelledImages:
    """Read a labelled set.

    Args:
        path: a folder with one sub-folder per label, or a CSV/TSV with the columns `path` and `label`; relative paths
            are relative to the file's folder. Rows that cannot be used are left out, and named in one warning.

    Raises:
        LabelledSetError: there are no labelled images; the message says what is expected.
    """
    if path.is_dir():
        listing = list_images([path])
        items = [item for item in listing if b"/" in item.key_bytes]
        if not items:
            raise LabelledSetError(f"{path} has no images in sub-folders; expected {path}/LABEL/IMAGE")
        if len(items) < len(listing):
            note(f"warning: {path}: images outside the folders of labels are left out: {len(listing) - len(items)}")
        for line in listing.left_out:
            note(f"{path}: {line}")
        return LabelledImages(items, [os.fsdecode(item.key_bytes.split(b"/", 1)[0]) for item in items])
    return _read_table(path)


def match_labels(labelled: LabelledImages, categories: Sequence[Category]) -> LabelledSet:
    """Find the category of each image by its label.

    That is the category of this name, else of this alias, else of this name or alias in other case or spacing.

    Args:
        labelled: the images and their labels.
        categories: of the memory; the rows of the result are places in this sequence.

    Raises:
        LabelledSetError: no label names a category, or a label fits several categories.
    """
    # The rows by name, by alias, and by both in other case or spacing.
    tables = [dict[str, list[int]]() for _ in range(4)]
    for row, category in enumerate(categories):
        loose = {_loosely(category.name)}, set(map(_loosely, category.aliases))
        for table, wordings in zip(tables, ({category.name}, set(category.aliases), *loose), strict=True):
            for wording in wordings:
                table.setdefault(wording, []).append(row)
    items, rows, unmatched = [], [], dict[str, int]()
    for item, label in zip(labelled.items, labelled.labels, strict=True):
        looked_up = (label, label, _loosely(label), _loosely(label))
        fitting = next((table[text] for table, text in zip(tables, looked_up, strict=True) if text in table), [])
        if len(fitting) > 1:
            shown = ", ".join(
                f"{printable(categories[row].name)!r} of group {categories[row].group!r}" for row in fitting
            )
            raise LabelledSetError(f"label {label!r} fits several categories ({shown}); rename one of them")
        if fitting:
            items.append(item)
            rows.append(fitting[0])
        else:
            unmatched[label] = unmatched.get(label, 0) + 1
    if not items:
        raise LabelledSetError(
            f"none of the {len(unmatched)} labels (such as {next(iter(unmatched), '')!r}) is a category of the memory"
        )
    return LabelledSet(items, rows, unmatched)


def _loosely(name: str) -> str:
    return " ".join(prompt_name(name).casefold().split())


def _read_table(path: Path) -> LabelledImages:
    shown = printable_path(path)
    rows: list[tuple[str, str]] = []
    bad: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            header = next(reader, [])
            if not {"path", "label"} <= set(header):
                raise LabelledSetError(f"{shown} needs the columns path and label; it has {_shown(header)}")
            columns = header.index("path"), header.index("label")
            for line, row in _numbered(reader):
                fault = row if isinstance(row, str) else _fault(row, header, columns)
                if fault is not None:
                    bad.append(f"line {line} ({fault})")
                else:
                    rows.append((row[columns[0]], row[columns[1]]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelledSetError(f"cannot read {shown}: {printable(str(error), 200)}") from error
    if bad:
        more = f" and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
        note(f"warning: {shown}: left out: {', '.join(bad[:_MOST_NAMED])}{more}; rows used: {len(rows)}")
    if not rows:
        raise LabelledSetError(f"{shown} has a header and no rows that can be used")
    items = [
        ImageItem(os.fsencode(name), os.path.join(os.fsencode(path.parent), os.fsencode(name))) for name, _ in rows
    ]
    return LabelledImages(items, [label for _, label in rows])


def _numbered(reader: _Reader) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the rows that are not empty, each with the number of its first line; a text for one that cannot be read."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, str(error)
            continue
        if row:
            yield line, row


def _fault(row: Sequence[str], header: Sequence[str], columns: tuple[int, int]) -> str | None:
    """Say why a row cannot be used; None: it can."""
    if len(row) <= max(columns):
        return f"{len(row)} of {len(header)} fields"
    if any(row[len(header) :]):  # as of an unquoted comma in a label; empty columns at the end do no harm
        return "more fields than the header"
    name, label = (row[column] for column in columns)
    if not name.strip() or not label.strip():
        return "no label" if name.strip() else "no path"
    return "a zero byte in the path" if "\0" in name else None


def _shown(names: Sequence[str]) -> str:
    return printable(", ".join(names), 200) or "none"
