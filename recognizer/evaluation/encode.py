"""Encode labelled images batch by batch: what evaluation, calibration, exemplars and ranking data have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recognizer.encoder import Encoder, ImageFeatures
from recognizer.features import FeatureStore, encode_or_read
from recognizer.images import ImageError, ImageItem
from recognizer.pipeline import in_batches
from recognizer.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class LabelledBatch:
    """The images of one batch that could be decoded.

    Attributes:
        items: (B,) the images.
        rows: (B,) int64 rows of their categories.
        features: of the B images.
        hashes: (B,) sha256 of their files. Passed as `exclude` to a scorer, they keep an exemplar that is the image
            itself from answering for it.
    """

    items: Sequence[ImageItem]
    rows: NDArray[np.int64]
    features: ImageFeatures
    hashes: Sequence[str]


@dataclass(slots=True)
class Failures:
    """The images that could not be decoded.

    Attributes:
        errors: (image, reason) in the order of the images.
    """

    errors: list[tuple[ImageItem, ImageError]] = field(default_factory=list)

    def by_code(self) -> dict[str, int]:
        """Return how many images failed with each error code."""
        return dict(Counter(error.code for _, error in self.errors))


def encode_labelled(
    encoder: Encoder,
    items: Sequence[ImageItem],
    rows: Sequence[int] | NDArray[np.int64],
    failures: Failures,
    *,
    settings: Settings | None = None,
    features: FeatureStore | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[LabelledBatch]:
    """Yield labelled images with their features, in order; images that cannot be decoded are left out.

    Args:
        encoder: what encodes.
        items: (N,) the images.
        rows: (N,) rows of their categories, or any other number of each.
        failures: where the images that cannot be decoded are noted.
        settings: batch size, decoding threads and limits; the defaults where None.
        features: stored ones, which are used and added to.
        progress: called after each batch with its number of images, failed ones included.
    """
    settings = settings or Settings()
    batches = in_batches(items, settings.run.batch_size)
    done = 0
    for batch in encode_or_read(
        encoder, batches, features=features, workers=settings.run.workers, limits=settings.images
    ):
        failures.errors.extend(
            (item, error) for item, error in zip(batch.items, batch.errors, strict=True) if error is not None
        )
        if batch.features is not None:
            yield LabelledBatch(
                items=[batch.items[position] for position in batch.positions],
                rows=np.array([rows[done + position] for position in batch.positions], np.int64),
                features=batch.features,
                hashes=batch.hashes,
            )
        done += len(batch.items)
        if progress is not None:
            progress(len(batch.items))
