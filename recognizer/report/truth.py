"""True labels of the rows of a report, and which rows are right."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memory import Category
from memory.lineage import SEPARATOR
from memory.wording import counted
from recognizer.evaluation.labelled import CategoryNames, read_labelled
from recognizer.images.key import display_key
from recognizer.report.columns import NO_LABEL, Columns
from recognizer.report.row_data import Status


@dataclass(frozen=True, slots=True)
class TruthCounts:
    """How the rows compare with the truth.

    Attributes:
        known: rows whose true label is known.
        right: those of them whose label is right; one that was rolled up is right if the true one is below it.
        unmatched: true labels of images without a row.
    """

    known: int
    right: int
    unmatched: int

    def sentences(self, rows: int) -> Iterator[str]:
        """Yield what is not compared, of so many rows."""
        if rows and not self.known:
            yield (
                "No row has a true label. Each path of the truth must be that of a row, or lead from the folder of the "
                "table to the same file."
            )
        elif self.known < rows:
            yield f"{rows - self.known} of {counted(rows, 'row')} have no true label."
        if self.unmatched:
            yield f"{counted(self.unmatched, 'true label')} without a row: no image of these results has its path."


class Truth:
    """True labels by the path of the image."""

    def __init__(self, path: Path) -> None:
        """Read them: a table with the columns path and label, or a folder with one sub-folder per label.

        Paths are those of the rows, or lead from the folder of the table to the same file.

        Raises:
            LabelledSetError: there are none.
        """
        labelled = read_labelled(path, missing_files=True)
        self._labels = {
            display_key(item.key_bytes): label for item, label in zip(labelled.items, labelled.labels, strict=True)
        }
        self._places = {
            os.path.normpath(os.path.abspath(item.path)): label
            for item, label in zip(labelled.items, labelled.labels, strict=True)
        }

    def label(self, key: str, place: bytes | None) -> str | None:
        """Return the true label of an image.

        Args:
            key: path of the image in its row.
            place: the absolute path of its file; None: unknown.
        """
        label = self._labels.get(key)
        return self._places.get(place) if label is None and place is not None else label

    def compare(self, columns: Columns, places: Iterable[bytes | None], categories: Sequence[Category]) -> TruthCounts:
        """Fill in the true labels of all rows, and mark which rows are right.

        Args:
            columns: the rows.
            places: the absolute path of each row's file; None: unknown.
            categories: those that the rows speak of; a true label is the category of this name, else of this name in
                other case or spacing, as in `recognizer eval`.
        """
        named = CategoryNames(categories)
        known = right = 0
        used: set[str] = set()
        fitting: dict[str, list[Category]] = {}
        names = list(columns.names)
        for number, (key, place) in enumerate(zip(columns.path, places, strict=True)):
            label = self.label(key, place)
            if label is None:
                columns.truth.append(NO_LABEL)
                continue
            known += 1
            used.add(key)
            if label not in fitting:
                fitting[label] = [categories[row] for row in named.rows(label)] or [Category(label)]
            chosen, is_right = _judge(fitting[label], number, columns, names)
            columns.truth.append(columns.names.number(chosen.name, chosen.group))
            right += is_right
            if is_right:
                columns.mark(number, Status.RIGHT)
            elif columns.label[number] != NO_LABEL:
                columns.mark(number, Status.WRONG)
        return TruthCounts(known, right, max(0, len(self._labels) - len(used)))


def _judge(
    fitting: Sequence[Category], number: int, columns: Columns, names: Sequence[tuple[str, str]]
) -> tuple[Category, bool]:
    """Return which category of the true name is meant, and whether the row's label is right."""
    if columns.label[number] == NO_LABEL:
        return fitting[0], False
    climbed = columns.climbed.get(number)
    for category in fitting:
        if climbed is not None:
            path = SEPARATOR.join(category.path)
            if path == climbed or path.startswith(climbed + SEPARATOR):
                return category, True
        elif (category.name, category.group) == names[columns.label[number]]:
            return category, True
    return fitting[0], False
