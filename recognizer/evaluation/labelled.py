"""Images whose category is known: an ImageFolder, or a CSV of path and label."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memory import Category
from memory.errors import LabelError, printable, printable_path
from memory.labels.cells import delimiter_by_count, delimiter_by_titles, read_titles, split_rows, without_empty_end
from memory.labels.rows import LabelFile, read_text
from memory.labels.text import HEADER_WORDS
from memory.templates import prompt_name
from memory.wording import counted
from recognizer.console import note
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem, list_images

_MOST_NAMED = 5  # bad lines, or names, in one message
EXPECTED = "FOLDER/LABEL/IMAGE, or a CSV file with the columns path and label"
# Titles, in lower case, that tools and people give to the column of paths.
PATH_TITLES = frozenset(["path", "file", "image", "img", *(
    f"{what}{blank}{part}"
    for what in ("file", "image", "img")
    for blank in ("", " ", "_")
    for part in ("name", "path", "file")
)])  # fmt: skip


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


def read_labelled(path: Path, *, missing_files: bool = False) -> LabelledImages:
    """Read a labelled set.

    Args:
        path: a folder with one sub-folder per label, or a CSV/TSV with the columns `path` and `label`, or others that
            are commonly called so; relative paths are relative to the file's folder. Rows that cannot be used, as
            those of missing files, are left out and named in one warning.
        missing_files: keep the rows of missing files, for labels that are compared with rows instead of images.

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
    return _read_table(path, missing_files=missing_files)


class CategoryNames:
    """Finds categories by what others call them."""

    def __init__(self, categories: Sequence[Category]) -> None:
        """Index the categories by name, by alias, and by both in other case or spacing."""
        self._tables = [dict[str, list[int]]() for _ in range(4)]
        for row, category in enumerate(categories):
            loose = {_loosely(category.name)}, set(map(_loosely, category.aliases))
            for table, wordings in zip(self._tables, ({category.name}, set(category.aliases), *loose), strict=True):
                for wording in wordings:
                    table.setdefault(wording, []).append(row)

    def rows(self, label: str) -> Sequence[int]:
        """Return the rows of the categories of this name, else of this alias, else of either in other case or spacing.

        Several categories of one name in different groups fit equally well.
        """
        looked_up = (label, label, _loosely(label), _loosely(label))
        return next((table[text] for table, text in zip(self._tables, looked_up, strict=True) if text in table), ())


def left_out_sentence(unmatched: Mapping[str, int], unit: str = "image") -> str:
    """Say how many images no figure counts, because their true names are no categories; the most frequent ones first.

    Args:
        unmatched: images by true name; at least one.
        unit: what is counted.
    """
    most = sorted(unmatched.items(), key=lambda each: -each[1])[:_MOST_NAMED]
    shown = ", ".join(f"{printable(label)!r} {number}" for label, number in most)
    more = f" and {counted(len(unmatched) - len(most), 'other name')}" if len(unmatched) > len(most) else ""
    total = sum(unmatched.values())
    return f"{counted(total, unit)} left out: true name not in the memory ({shown}{more})"


def match_labels(labelled: LabelledImages, categories: Sequence[Category]) -> LabelledSet:
    """Find the category of each image by its label.

    That is the category of this name, else of this alias, else of this name or alias in other case or spacing.

    Args:
        labelled: the images and their labels.
        categories: of the memory; the rows of the result are places in this sequence.

    Raises:
        LabelledSetError: no label names a category, or a label fits several categories.
    """
    named = CategoryNames(categories)
    items, rows, unmatched = [], [], dict[str, int]()
    for item, label in zip(labelled.items, labelled.labels, strict=True):
        fitting = named.rows(label)
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
        some = ", ".join(repr(printable(category.name)) for category in categories[:_MOST_NAMED])
        raise LabelledSetError(
            f"none of {counted(len(unmatched), 'label')} (such as {next(iter(unmatched), '')!r}) is a category of the "
            f"memory, which has {some}. Give images of its categories, or build a memory of these labels"
        )
    return LabelledSet(items, rows, unmatched)


def _loosely(name: str) -> str:
    return " ".join(prompt_name(name).casefold().split())


def _read_table(path: Path, *, missing_files: bool) -> LabelledImages:
    shown = printable_path(path)
    try:
        file = LabelFile(path, read_text(path))
    except LabelError as error:
        raise LabelledSetError(f"{error} Labelled images are {EXPECTED}.") from error
    delimiter = delimiter_by_titles(file, PATH_TITLES) or delimiter_by_count(file)
    lines = split_rows(file, delimiter)
    header = next(lines, (1, list[str]()))[1]
    if isinstance(header, csv.Error):
        raise LabelledSetError(f"{shown}: the first line cannot be read: {header}")
    titles = read_titles(header)
    columns = find_column(shown, titles, "path", PATH_TITLES), find_column(shown, titles, "label", HEADER_WORDS)
    used: list[tuple[str, str]] = []
    bad: list[str] = []
    for line, row in lines:
        if isinstance(row, csv.Error):
            bad.append(f"line {line} ({row})")
            continue
        cells = without_empty_end(row, titles)
        if not any(cell.strip() for cell in cells):
            continue
        fault = _fault(cells, titles, columns, None if missing_files else path.parent)
        if fault is None:
            used.append((cells[columns[0]], cells[columns[1]]))
        else:
            bad.append(f"line {line} ({fault})")
    named = ", ".join(bad[:_MOST_NAMED]) + (f" and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else "")
    if not used:
        said = f": {named}" if bad else ""
        raise LabelledSetError(f"{shown} has a header and no rows that can be used{said}")
    if bad:
        note(f"warning: {shown}: left out: {named}; rows used: {len(used)}")
    items = [ImageItem(os.fsencode(name), _place(path.parent, name)) for name, _ in used]
    return LabelledImages(items, [label for _, label in used])


def find_column(shown: str, titles: Sequence[str], wanted: str, others: Collection[str]) -> int:
    """Return the place of a column: of the title `wanted` in any case, else of the only other title that fits.

    Args:
        shown: the file, for messages.
        titles: its header.
        wanted: path or label.
        others: titles that may stand for it, in lower case.

    Raises:
        LabelledSetError: there is none, or several may be it.
    """
    lower = [title.lower() for title in titles]
    fitting = [place for place, title in enumerate(lower) if title == wanted]
    fitting = fitting or [place for place, title in enumerate(lower) if title in others]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = " and ".join(printable(titles[place]) for place in fitting)
        raise LabelledSetError(f"{shown}: the columns {several} may all hold the {wanted}; call one of them {wanted}")
    has = printable(", ".join(titles), 200) or "none"
    raise LabelledSetError(f"{shown} needs the columns path and label; it has {has}. Labelled images are {EXPECTED}")


def _place(folder: Path, name: str) -> bytes:
    return os.path.join(os.fsencode(folder), os.fsencode(name))


def _fault(row: Sequence[str], titles: Sequence[str], columns: tuple[int, int], folder: Path | None) -> str | None:
    """Say why a row cannot be used; None: it can."""
    if len(row) <= max(columns):
        return f"{len(row)} of {len(titles)} fields"
    if len(row) > len(titles):  # as of an unquoted comma in a label
        return "more fields than the header"
    name, label = (row[column] for column in columns)
    if not name.strip() or not label.strip():
        return "no label" if name.strip() else "no path"
    if "\0" in name:
        return "a zero byte in the path"
    return None if folder is None or os.path.exists(_place(folder, name)) else f"there is no file {printable(name)}"
