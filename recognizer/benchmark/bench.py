"""What protocols measure with: an encoder, the settings of decoding, stored features; and vectors of class names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category
from memory.errors import printable
from memory.halves import rounded
from memory.templates import bare_text, grounded_texts, name_texts
from memory.vectors import Matrix, MemoryVectors, unit_mean
from recognizer.console import note, progress_bar
from recognizer.encoder import Encoder
from recognizer.errors import RecognizerError
from recognizer.evaluation.encode import Failures, LabelledBatch, encode_labelled
from recognizer.features import FeatureStore
from recognizer.images import ImageItem
from recognizer.settings import Settings

_MOST_NAMED = 10  # entries of a folder in one message


class LayoutError(RecognizerError):
    """A folder of data has another layout than the protocol reads; the message says what was expected and is there."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What is measured, and how its images are encoded.

    Attributes:
        encoder: the encoder.
        settings: batch size, workers, image limits, and the region threshold of the score.
        features: stored ones, which are used and added to; None: every image is encoded.
    """

    encoder: Encoder
    settings: Settings
    features: FeatureStore | None = None

    def encode(
        self, items: Sequence[ImageItem], labels: Sequence[int] | NDArray[np.int64], what: str
    ) -> Iterator[LabelledBatch]:
        """Yield images with their features, in order, under a progress bar; those that fail are left out and counted.

        Args:
            items: (N) the images.
            labels: (N) a number for each image, which comes back as `rows` of its batch.
            what: name of the progress bar.

        Raises:
            RecognizerError: not one image could be decoded.
        """
        failures = Failures()
        with progress_bar(len(items), "images", what) as advance:
            yield from encode_labelled(
                self.encoder,
                items,
                labels,
                failures,
                settings=self.settings,
                features=self.features,
                progress=advance,
            )
        if len(failures.errors) == len(items):
            item, error = failures.errors[0]
            raise RecognizerError(f"{what}: none of {len(items)} images could be decoded; {item.key}: {error.reason}")
        if failures.errors:
            note(f"warning: {what}: images that could not be decoded and do not count: {failures.by_code()}")

    def class_vectors(self, categories: Sequence[Category], templates: Sequence[str]) -> MemoryVectors:
        """Return the vectors of categories as a memory has them, in the order of `categories` and without a file.

        Two categories may have the same name, as in ImageNet.

        Args:
            categories: (C) names, aliases and descriptions; exemplars are not read.
            templates: with `{}` or `{c}` for the name.
        """
        pairs = [(category, each) for category in categories for each in category.descriptions]
        return MemoryVectors(
            categories=categories,
            names=self._means([name_texts(category, templates) for category in categories]),
            offsets=np.cumsum([0, *(len(category.descriptions) for category in categories)]),
            grounded=self._means([grounded_texts(category, each, templates) for category, each in pairs]),
            bare=self._means([(bare_text(category, each),) for category, each in pairs]),
            descriptions=[each.text for _, each in pairs],
            exemplar_offsets=np.zeros(len(categories) + 1, np.int64),
            exemplars=np.zeros((0, self.encoder.dim), np.float32),
            exemplar_hashes=(),
            exemplar_references=(),
        )

    def _means(self, texts: Sequence[Sequence[str]]) -> Matrix:
        """Encode groups of texts; returns (G, D) the unit mean of each."""
        if not texts:
            return np.zeros((0, self.encoder.dim), np.float32)
        flat = [text for group in texts for text in group]
        means = unit_mean(self.encoder.encode_texts(flat), np.array([*map(len, texts)]), [group[0] for group in texts])
        return rounded(means)  # as a memory stores them


def contents(folder: Path) -> str:
    """Say what is in a folder, for messages about its layout.

    Raises:
        LayoutError: it is not a folder.
    """
    if not folder.is_dir():
        raise LayoutError(f"{folder} is not a folder; --data takes the folder that holds the data sets")
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(folder))
    shown = ", ".join(printable(name, 60) for name in names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "") or "nothing"
