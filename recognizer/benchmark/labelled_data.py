"""The data of a protocol that needs labelled images: the usual data sets, an ImageFolder or a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.benchmark.bench import LayoutError, contents
from recognizer.benchmark.data_sets import DATA_SETS, ImageSplit, read_split, require_known
from recognizer.benchmark.shots import Rows, halves
from recognizer.evaluation.labelled import LabelledImages, read_labelled
from recognizer.images import ImageItem

LAYOUTS = (
    "the usual layouts of data sets (as for zero-shot); or train/LABEL/IMAGE and test/LABEL/IMAGE, or train.csv and "
    "test.csv with the columns path and label; or LABEL/IMAGE; or such a CSV file in place of the folder"
)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledData:
    """Images of some classes, with or without a test set of their own.

    Attributes:
        name: for the table.
        classes: (C) their names.
        items: (N) the images.
        labels: (N,) class of each.
        is_test: (N,) which images are the test set; None: there is none, and a part of the images must serve as one.
        templates: of the data set; None: it has none of its own.
        note: what a reader must know about the data; may be empty.
        splits: what the images were read from, which may keep files of theirs.
    """

    name: str
    classes: Sequence[str]
    items: Sequence[ImageItem]
    labels: Rows
    is_test: NDArray[np.bool_] | None = None
    templates: Sequence[str] | None = None
    note: str = ""
    splits: Sequence[ImageSplit] = ()

    @property
    def tests(self) -> Rows:
        """Numbers of the images of the test set; of all images where there is none."""
        return np.flatnonzero(np.ones(len(self.labels), bool) if self.is_test is None else self.is_test)

    def divided(self, seed: int | None) -> tuple[Rows, Rows]:
        """Return the numbers of the images that may be shots, and of those that test.

        Args:
            seed: of the division of data without a test set; None: shots are the first in the order of the files.
        """
        if self.is_test is None:
            return halves(self.labels, seed=seed)
        return np.flatnonzero(~self.is_test), np.flatnonzero(self.is_test)

    def at(self, rows: Rows) -> list[ImageItem]:
        """Return some of the images."""
        return [self.items[row] for row in rows]


def read_data(path: Path, *, sets: Sequence[str] = (), with_training: bool = True) -> Iterator[LabelledData]:
    """Read every data set that a folder holds, one after the other; a file holds one.

    Args:
        path: see `LAYOUTS`; labels of a folder or table are the names of the classes.
        sets: names of usual data sets: these alone, all of which must be there; empty: what is there.
        with_training: whether training images are wanted, which may be a million.

    Raises:
        LayoutError: it holds none, or one that cannot be read; the message says what is expected and what is there.
        RecognizerError: a name in `sets` is unknown.
        LabelledSetError: a table or folder of labels cannot be used.
    """
    require_known(sets)
    if path.is_file() and not sets:
        yield _joined(path.stem, read_labelled(path))
        return
    shown = contents(path)
    known = False
    for name in sets or DATA_SETS:
        test = read_split(name, path, "test", prefer="coop")
        if test is not None:
            known = True
            yield _data_set(name, test, _training(name, path) if with_training else None)
        elif sets:
            raise LayoutError(f"{name} is not there: expected {DATA_SETS[name].expected}; {path} has {shown}")
    if known:
        return
    parts = [next((p for p in (path / part, path / f"{part}.csv") if p.exists()), None) for part in ("train", "test")]
    if None not in parts:
        train, test_images = (read_labelled(part) for part in parts if part is not None)
        yield _joined(path.name, train, test_images)
        return
    if not any(entry.is_dir() for entry in path.iterdir()):
        raise LayoutError(f"{path} holds no labelled images: expected {LAYOUTS}; it has {shown}")
    yield _joined(path.name, read_labelled(path))


def _training(name: str, path: Path) -> ImageSplit | None:
    try:
        return read_split(name, path, "train", prefer="coop")
    except LayoutError:  # a set without a split, or of which only the test images are here
        return None


def _data_set(name: str, test: ImageSplit, train: ImageSplit | None) -> LabelledData:
    found = [split for split in (train, test) if split is not None]
    size = len(train.items) if train is not None else 0
    items = [item for split in found for item in split.items]
    return LabelledData(
        name,
        test.classes,
        items,
        np.concatenate([split.labels for split in found]),
        np.arange(len(items)) >= size if train is not None else None,
        DATA_SETS[name].templates,
        test.note,
        found,
    )


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
