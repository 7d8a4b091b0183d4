"""The data of a protocol that needs labelled images: a data set of the papers, an ImageFolder or a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.benchmark.bench import LayoutError, contents
from recognizer.benchmark.shots import Rows, halves
from recognizer.evaluation.labelled import EXPECTED, LabelledImages, read_labelled
from recognizer.images import ImageItem

LAYOUTS = f"DATA/train and DATA/test (folders of labels, or train.csv and test.csv), or {EXPECTED}"


@dataclass(frozen=True, slots=True, eq=False)
class LabelledData:
    """Images of some classes, with or without a test set of their own.

    Attributes:
        name: for the table.
        classes: (C) their names.
        items: (N) the images.
        labels: (N,) class of each.
        is_test: (N,) which images are the test set; None: there is none, and a part of the images must serve as one.
        note: what a reader must know about the data; may be empty.
    """

    name: str
    classes: Sequence[str]
    items: Sequence[ImageItem]
    labels: Rows
    is_test: NDArray[np.bool_] | None = None
    note: str = ""

    @property
    def tests(self) -> Rows:
        """Numbers of the images of the test set; of all images where there is none."""
        return np.flatnonzero(np.ones(len(self.labels), bool) if self.is_test is None else self.is_test)

    def divided(self, seed: int | None) -> tuple[Rows, Rows]:
        """Return the numbers of the images that may be shots, and of those that test.

        Args:
            seed: of the division of data without a test set.
        """
        if self.is_test is None:
            return halves(self.labels, seed=seed)
        return np.flatnonzero(~self.is_test), np.flatnonzero(self.is_test)

    def at(self, rows: Rows) -> list[ImageItem]:
        """Return some of the images."""
        return [self.items[row] for row in rows]


def read_data(path: Path) -> list[LabelledData]:
    """Read every data set that a folder or file holds.

    Args:
        path: see `LAYOUTS`; labels of the images are the names of the classes.

    Raises:
        LayoutError: it holds none; the message says what is expected and what is there.
        LabelledSetError: a table or folder of labels cannot be used.
    """
    if path.is_file():
        return [_joined(path.stem, read_labelled(path))]
    shown = contents(path)
    parts = [
        next((place for place in (path / part, path / f"{part}.csv") if place.exists()), None)
        for part in ("train", "test")
    ]
    if None not in parts:
        train, test = (read_labelled(part) for part in parts if part is not None)
        return [_joined(path.name, train, test)]
    if not any(entry.is_dir() for entry in path.iterdir()):
        raise LayoutError(f"{path} holds no labelled images: expected {LAYOUTS}; it has {shown}")
    return [_joined(path.name, read_labelled(path))]


def _joined(name: str, first: LabelledImages, test: LabelledImages | None = None) -> LabelledData:
    """Join training and test images; classes are in alphabetical order."""
    items, labels = [*first.items], [*first.labels]
    is_test = None
    if test is not None:
        items, labels = [*items, *test.items], [*labels, *test.labels]
        is_test = np.arange(len(items)) >= len(first.items)
    classes = sorted(set(labels))
    row_of = {label: row for row, label in enumerate(classes)}
    return LabelledData(name, classes, items, np.array([row_of[label] for label in labels], np.int64), is_test)
