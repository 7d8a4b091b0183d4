"""True labels of the rows of a report, and which rows are right."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memory import Category, Memory, MemoryStoreError
from memory.lineage import SEPARATOR
from memory.wording import counted
from recognizer.evaluation.labelled import CategoryNames, left_out_sentence, read_labelled
from recognizer.images.key import display_key
from recognizer.report.columns import NO_LABEL, Columns
from recognizer.report.row_data import Status
from recognizer.results.run_info import RunInfo


@dataclass(frozen=True, slots=True)
class TruthCounts:
    """How the rows compare with the truth.

    Attributes:
        known: rows whose true label is a category of the memory.
        right: those of them whose label is right; one that was rolled up is right if the true one is below it.
        unmatched: true labels of images without a row.
        left_out: rows by true label where that is no category of the memory, as in `recognizer eval`.
        guessed: rows whose true label no row mentions, where nothing says whether the memory has it; they are `known`.
    """

    known: int
    right: int
    unmatched: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    guessed: int = 0

    def figures(self) -> dict[str, int]:
        """Return what the page shows."""
        left_out = sum(self.left_out.values())
        return {"known": self.known, "right": self.right, "unmatched": self.unmatched, "leftOut": left_out}

    def sentences(self, rows: int) -> Iterator[str]:
        """Yield what is not compared, of so many rows."""
        labelled = self.known + sum(self.left_out.values())
        if rows and not labelled:
            yield (
                "No row has a true label. Each path of the truth must be that of a row, or lead from the folder of the "
                "table to the same file."
            )
        elif labelled < rows:
            yield f"{rows - labelled} of {counted(rows, 'row')} have no true label."
        if self.left_out:
            yield f"{left_out_sentence(self.left_out, 'row')}."
        if self.guessed:
            yield (
                f"Counted as wrong: {counted(self.guessed, 'row')} whose true name no row mentions. Nothing says "
                "whether the memory has it, for the memory of the run is not where it was, or has changed."
            )
        if self.unmatched:
            yield f"{counted(self.unmatched, 'true label')} without a row: no image of these results has its path."


def memory_categories(info: RunInfo | None) -> Sequence[Category] | None:
    """Return the categories of the memory that a run names; None where it is not there, or has changed since."""
    place = "" if info is None else str(info.memory.get("path") or "")
    if info is None or not Path(place).is_dir():  # nor from an object store: a report needs no network
        return None
    try:
        memory = Memory.open(place)
        return memory.bare_categories() if memory.digest == info.memory.get("digest") else None
    except (MemoryStoreError, RuntimeError, ValueError, OSError):
        return None


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

    def compare(
        self, columns: Columns, places: Iterable[bytes | None], categories: Sequence[Category], *, is_all: bool
    ) -> TruthCounts:
        """Fill in the true labels of all rows, and mark which rows are right.

        Args:
            columns: the rows.
            places: the absolute path of each row's file; None: unknown.
            categories: of the memory, or those that the rows speak of; a true label is the category of this name, else
                of this name in other case or spacing, as in `recognizer eval`.
            is_all: whether these are all of the memory; then other true labels are left out, as there.
        """
        named = CategoryNames(categories)
        known = right = guessed = 0
        left_out: Counter[str] = Counter()
        used: set[str] = set()
        fitting: dict[str, list[Category]] = {}
        names = list(columns.names)
        for number, (key, place) in enumerate(zip(columns.path, places, strict=True)):
            label = self.label(key, place)
            if label is None:
                columns.truth.append(NO_LABEL)
                continue
            used.add(key)
            if label not in fitting:
                fitting[label] = [categories[row] for row in named.rows(label)]
            if not fitting[label] and is_all:
                left_out[label] += 1
                columns.truth.append(columns.names.number(label))
                columns.mark(number, Status.NOT_IN_MEMORY)
                continue
            known += 1
            guessed += not fitting[label]
            chosen, is_right = _judge(fitting[label] or [Category(label)], number, columns, names)
            columns.truth.append(columns.names.number(chosen.name, chosen.group))
            right += is_right
            if is_right:
                columns.mark(number, Status.RIGHT)
            elif columns.label[number] != NO_LABEL:
                columns.mark(number, Status.WRONG)
        return TruthCounts(known, right, max(0, len(self._labels) - len(used)), left_out, guessed)


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
