"""The labelled images as calibration sees them: turned into terms, and split into two halves without common copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from memory.index import inner_products
from recognizer.calibration.terms import UNKNOWN, Rows, TermTable, make_table
from recognizer.errors import RecognizerError
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.labelled import LabelledImages, match_labels
from recognizer.images import ImageItem
from recognizer.recognizer import Recognizer

COPY_COSINE = 0.995
"""Images whose vectors are nearer than this are taken for copies: the same picture scaled, encoded again or trimmed.

It errs towards copies: two pictures wrongly taken for one only share a half, while a copy in each half would make the
reported figures too good."""
TAKEN_OUT = 0.2
"""Share of each half's categories that are taken out of the memory, so that their images are unknown.

A fifth gives unknown images of many kinds and leaves four known images for each of them."""
_CHUNK = 1024  # rows of the N x N similarities computed at a time


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N labelled images that could be decoded.

    Attributes:
        items: (N) the images.
        rows: (N,) their categories' rows, `UNKNOWN` for a label that names no category of the memory.
        table: their terms.
        vectors: (N, D) float32 unit rows of the whole images.
        hashes: (N) sha256 of their files.
        failed: how many more could not be decoded, by error code.
        unmatched: labels that name no category, with the number of their images.
    """

    items: Sequence[ImageItem]
    rows: Rows
    table: TermTable
    vectors: NDArray[np.float32]
    hashes: Sequence[str]
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One half of a sample: the one to fit on, or the one to report on.

    Attributes:
        images: (n,) numbers of its images in the sample, ascending.
        items: (n) these images.
        rows: (n,) rows of their categories, or `UNKNOWN`.
        taken_out: categories taken out of the memory where known images are told from unknown ones.
    """

    images: Rows
    items: Sequence[ImageItem]
    rows: Rows
    taken_out: Rows

    @property
    def unknown(self) -> int:
        """How many images are unknown once the categories are taken out."""
        return int(np.isin(self.rows, [UNKNOWN, *self.taken_out]).sum())


def measure_sample(
    recognizer: Recognizer, labelled: LabelledImages, *, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Sample:
    """Encode labelled images and compute their terms against the memory.

    Args:
        recognizer: encoder, memory and settings.
        labelled: the images; a label that names no category makes its images unknown ones.
        seed: of the sample of categories, where the memory is large.
        progress: called with the number of images done since the last call.

    Raises:
        LabelledSetError: no label names a category, or one names several.
        RecognizerError: not one image could be decoded.
    """
    matched = match_labels(labelled, recognizer.memory.vectors.categories)
    known = iter(matched.rows)
    true_rows = [UNKNOWN if label in matched.unmatched else next(known) for label in labelled.labels]
    rng = np.random.default_rng(seed)
    items: list[ImageItem] = []
    rows: list[Rows] = []
    tables: list[TermTable] = []
    vectors: list[NDArray[np.float32]] = []
    hashes: list[str] = []
    failures = Failures()
    for batch in encode_labelled(
        recognizer.encoder,
        labelled.items,
        true_rows,
        failures,
        settings=recognizer.settings,
        features=recognizer.features,
        progress=progress,
    ):
        items.extend(batch.items)
        rows.append(batch.rows)
        exemplar = recognizer.scorer.exemplar_term(batch.features.image, batch.hashes)
        tables.append(make_table(recognizer.scorer.terms(batch.features) + exemplar[:, :, None], batch.rows, rng))
        vectors.append(batch.features.image)
        hashes.extend(batch.hashes)
    failed = failures.by_code()
    if not items:
        raise RecognizerError(f"none of the {len(labelled.items)} images could be decoded: {failed}")
    return Sample(
        items=items,
        rows=np.concatenate(rows),
        table=TermTable.concatenate(tables),
        vectors=np.concatenate(vectors),
        hashes=hashes,
        failed=failed,
        unmatched=matched.unmatched,
    )


def copy_groups(hashes: Sequence[str], vectors: NDArray[np.float32], *, above: float = COPY_COSINE) -> Rows:
    """Number the groups of images that are copies of one another, directly or through other copies.

    Args:
        hashes: (N) sha256 of the files; equal ones are copies.
        vectors: (N, D) unit rows; those whose cosine is above `above` are copies. Costs O(N^2 D).
        above: a cosine.

    Returns:
        (N,) int64 group of each image, from 0.
    """
    count = len(hashes)
    _, first, file = np.unique(np.asarray(hashes), return_index=True, return_inverse=True)
    left, right = [np.arange(count)], [first[file]]
    for start in range(0, count, _CHUNK):
        near, other = np.nonzero(inner_products(vectors[start : start + _CHUNK], vectors) > above)
        left.append(near + start)
        right.append(other)
    edges = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(count, count))
    groups: Rows = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def split_halves(groups: Rows, items: Sequence[ImageItem], rows: Rows, *, seed: int = 0) -> tuple[Split, Split]:
    """Deal groups of copies into two halves of nearly equal size, and choose the categories taken out in each.

    Args:
        groups: (N,) group of copies of each image.
        items: (N) the images.
        rows: (N,) true category rows, or `UNKNOWN`.
        seed: of both choices.

    Returns:
        The half to fit on and the half to report on; no category is taken out in both.
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(groups)
    in_fit = np.zeros(len(sizes), bool)
    filled = [0, 0]
    for group in rng.permutation(len(sizes)):
        half = int(filled[1] < filled[0])
        in_fit[group] = half == 0
        filled[half] += int(sizes[group])
    chosen = in_fit[groups]
    splits: list[Split] = []
    taken_out = np.zeros(0, np.int64)
    for images in (np.flatnonzero(chosen), np.flatnonzero(~chosen)):
        present = np.unique(rows[images][rows[images] != UNKNOWN])
        candidates = rng.permutation(np.setdiff1d(present, taken_out))
        taken_out = np.sort(candidates[: int(TAKEN_OUT * len(present))])
        splits.append(Split(images, [items[number] for number in images.tolist()], rows[images], taken_out))
    return splits[0], splits[1]
