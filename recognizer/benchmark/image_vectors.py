"""The whole-image vectors of labelled data, each image encoded once whatever is drawn of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memory.vectors import Matrix
from recognizer.benchmark.bench import Bench
from recognizer.benchmark.labelled_data import LabelledData
from recognizer.score import Rows


@dataclass(frozen=True, slots=True, eq=False)
class ImageVectors:
    """Vectors of some of N images.

    Attributes:
        place: (N,) row of each image in `vectors`; -1 for an image that was not encoded or not decoded.
        vectors: (n, D) float32 unit rows.
        hashes: (n) SHA-256 of the files.
    """

    place: Rows
    vectors: Matrix
    hashes: Sequence[str]

    def decoded(self, images: Rows) -> Rows:
        """Return those of some images that have a vector."""
        return images[self.place[images] >= 0]

    def of(self, images: Rows) -> Matrix:
        """Return the vectors of images that have one."""
        rows: Matrix = self.vectors[self.place[images]]
        return rows

    def hashes_of(self, images: Rows) -> list[str]:
        """Return the hashes of images that have a vector."""
        return [self.hashes[row] for row in self.place[images]]


def encode_vectors(bench: Bench, data: LabelledData, images: Rows) -> ImageVectors:
    """Encode some images of a data set.

    Args:
        bench: what is measured.
        data: the images.
        images: numbers of those that are wanted.

    Raises:
        RecognizerError: not one of them could be decoded.
    """
    place = np.full(len(data.items), -1, np.int64)
    vectors: list[Matrix] = []
    hashes: list[str] = []
    for batch in bench.encode(data.at(images), images, data.name):
        place[batch.rows] = np.arange(len(hashes), len(hashes) + len(batch.rows))
        vectors.append(batch.features.image)
        hashes.extend(batch.hashes)
    return ImageVectors(place, np.concatenate(vectors), hashes)
