"""The labelled images as calibration sees them: encoded once, turned into terms, their true categories beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.calibration.terms import UNKNOWN, Rows, TermScorer, TermTable, make_table
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledImages, match_labels
from recognizer.images import ImageItem
from recognizer.pipeline import encode_files, in_batches
from recognizer.recognizer import Recognizer, reference_features


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N labelled images that could be decoded.

    Attributes:
        items: (N) the images.
        rows: (N,) their categories' rows, `UNKNOWN` for a label that is no category of the memory.
        table: their terms.
        vectors: (N, D) float32 unit rows of the whole images.
        hashes: (N) sha256 of their files.
        failed: how many more could not be decoded, by error code.
        unmatched: labels that are no category, with the number of their images.
    """

    items: Sequence[ImageItem]
    rows: Rows
    table: TermTable
    vectors: NDArray[np.float32]
    hashes: Sequence[str]
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]


def measure_sample(
    recognizer: Recognizer, labelled: LabelledImages, *, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Sample:
    """Encode labelled images and compute their terms against the memory.

    Args:
        recognizer: encoder, memory and settings.
        labelled: the images; a label that is no category makes its images unknown ones.
        seed: of the sample of categories, where the memory is large.
        progress: called with the number of images done since the last call.

    Raises:
        LabelledSetError: no label names a category, or one fits several.
        RecognizerError: not one image could be decoded.
    """
    rows, unmatched = _rows(labelled, recognizer)
    settings = recognizer.settings
    reference = reference_features(recognizer.encoder) if settings.score.center else None
    scorer = TermScorer(recognizer.memory.vectors, settings.score, reference=reference)
    rng = np.random.default_rng(seed)
    tables: list[TermTable] = []
    vectors: list[NDArray[np.float32]] = []
    kept: list[int] = []
    hashes: list[str] = []
    failed: dict[str, int] = {}
    done = 0
    batches = in_batches(labelled.items, settings.run.batch_size)
    for batch in encode_files(recognizer.encoder, batches, workers=settings.run.workers, limits=settings.images):
        for error in filter(None, batch.errors):
            failed[error.code] = failed.get(error.code, 0) + 1
        if batch.features is not None:
            numbers = done + np.asarray(batch.positions)
            # An exemplar that is the image itself would answer for it.
            values = scorer.terms(batch.features, exclude=batch.hashes)
            tables.append(make_table(values, rows[numbers], rng))
            vectors.append(batch.features.image)
            kept.extend(numbers.tolist())
            hashes.extend(batch.hashes)
        done += len(batch.items)
        if progress:
            progress(len(batch.items))
    if not kept:
        raise RecognizerError(f"none of the {done} images could be decoded: {failed}")
    return Sample(
        items=[labelled.items[number] for number in kept],
        rows=rows[kept],
        table=TermTable.concatenate(tables),
        vectors=np.concatenate(vectors),
        hashes=hashes,
        failed=failed,
        unmatched=unmatched,
    )


def _rows(labelled: LabelledImages, recognizer: Recognizer) -> tuple[Rows, dict[str, int]]:
    matched = match_labels(labelled, recognizer.memory.vectors.categories)
    found = iter(matched.rows)
    rows = [UNKNOWN if label in matched.unmatched else next(found) for label in labelled.labels]
    return np.array(rows, np.int64), matched.unmatched
