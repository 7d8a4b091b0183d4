"""The score of an image against every category of a memory: a weighted sum of five cosine terms, computed exactly.

For image vector g, region vectors r_q and category c with name vector n_c, grounded descriptions v_cj, bare
descriptions d_cj and exemplars x_ck:

    s(i,c) = w_n <g, n_c> + w_d mean_j <g, v_cj> + w_r mean_j max_q <r_q, d_cj> + w_o max_q <r_q, n_c>
           + w_x z(top-mean_k <g, x_ck>)

Name and grounded terms are linear in g, so they fold into one vector per category, u_c = w_n n_c + w_d mean_j v_cj; the
region terms are one chunked product with a maximum over the regions. A category without descriptions has its name as
its only description. `recognizer.evidence` takes the same sum apart again. Knows arrays only: no encoder, no images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory.index import inner_products
from memory.search import Fold
from memory.vectors import MemoryVectors, mean_by_category
from recognizer.settings import ScoreSettings

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# Rows of text vectors per product: with 32 images of 100 regions one chunk of similarities is 50 MB, whatever the
# memory's size.
CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Bias:
    """What is subtracted from each similarity: the text's mean over a fixed reference set, or 0.

    Hub texts are near every image; their mean similarity is high and says nothing about this one.
    """

    name: Floats  # (C,) mean <g, n_c>
    grounded: Floats  # (J,) mean <g, v_j>
    region: Floats  # (J,) mean max_q <r_q, d_j>
    region_name: Floats  # (C,) mean max_q <r_q, n_c>

    @classmethod
    def none(cls, vectors: MemoryVectors) -> Bias:
        """Return the bias that changes nothing."""
        categories, descriptions = len(vectors.names), len(vectors.bare)
        return cls(*(np.zeros(n, np.float32) for n in (categories, descriptions, descriptions, categories)))


class Scorer:
    """Scores images against all categories of one memory under one set of weights.

    Args:
        vectors: the memory's vectors, C categories and J descriptions of D dimensions.
        settings: weights, the region threshold, centring and the number of exemplars averaged.
        reference: features of the fixed reference set; needed when `settings.center` is on.

    Raises:
        ValueError: centring is on and there is no reference.
    """

    def __init__(
        self, vectors: MemoryVectors, settings: ScoreSettings, *, reference: ImageFeatures | None = None
    ) -> None:
        """Fold what is linear in the image vector and, for centring, measure each text's mean similarity."""
        self.vectors = vectors
        self.settings = settings
        self.described = np.diff(vectors.offsets) > 0
        self.bias = Bias.none(vectors)
        if settings.center:
            if reference is None:
                raise ValueError("score.center needs the features of a reference set")
            self.bias = self._measure_bias(reference)
        self.folded = self.fold(vectors, settings)
        self._folded_bias = self._fold_bias()

    @staticmethod
    def fold(vectors: MemoryVectors, settings: ScoreSettings) -> Floats:
        """Return u_c = w_n n_c + w_d mean_j v_cj for every category; not unit length.

        Returns:
            (C, D) float32.
        """
        return Fold(settings.name, settings.description).rows(vectors)

    def score(self, features: ImageFeatures, *, exclude: Sequence[str] = ()) -> Floats:
        """Score every category for every image.

        Args:
            features: of B images with Q regions each.
            exclude: per image the sha256 of its file; exemplars with that hash are left out for it. Empty: none is.

        Returns:
            (B, C) float32, columns in the memory's row order.
        """
        scores = inner_products(features.image, self.folded) - self._folded_bias
        if self.settings.region or self.settings.region_name:
            self._add_region_terms(scores, features)
        if self.settings.exemplar and len(self.vectors.exemplars):
            scores += self.settings.exemplar * self.exemplar_term(features.image, exclude)
        return scores

    def score_some(self, features: ImageFeatures, image: int, rows: Rows, *, exclude: Sequence[str] = ()) -> Floats:
        """Score the given categories for one image: the exact stage after an approximate search.

        Args:
            features: of B images.
            image: which of them.
            rows: (n,) category rows.
            exclude: as in `score`.

        Returns:
            (n,) float32, equal to `score(...)[image, rows]` up to rounding.
        """
        one = features.take(image)
        scores = one.image[0] @ self.folded[rows].T - self._folded_bias[rows]
        regions = self.visible_regions(one)[0]
        if self.settings.region_name:
            scores += self.settings.region_name * (
                (self.vectors.names[rows] @ regions.T).max(1) - self.bias.region_name[rows]
            )
        if self.settings.region:
            scores += self.settings.region * np.array([self._region_term_of(int(row), regions) for row in rows])
        if self.settings.exemplar and len(self.vectors.exemplars):
            scores += self.settings.exemplar * self.exemplar_term(one.image, exclude[image : image + 1])[0, rows]
        found: Floats = scores.astype(np.float32)
        return found

    def visible_regions(self, features: ImageFeatures) -> list[Floats]:
        """Return the regions whose weight reaches the threshold, per image; the image itself where none does.

        Regions of low weight are masked, not multiplied: a small factor would raise a negative cosine.
        """
        keep = features.region_weight >= self.settings.region_threshold
        return [
            regions[mask] if mask.any() else image[None]
            for image, regions, mask in zip(features.image, features.regions, keep, strict=True)
        ]

    def exemplar_term(self, images: Floats, exclude: Sequence[str] = ()) -> Floats:
        """Return z(top-mean_k <g, x_ck>): standardised per image over the categories that have exemplars, else 0.

        Args:
            images: (B, D) unit rows.
            exclude: per image a file hash whose exemplars are left out, or empty.

        Returns:
            (B, C) float32; 0 for a category with no (remaining) exemplar and when fewer than two categories have one.
        """
        similarity = inner_products(images, self.vectors.exemplars)
        hashes = np.asarray(self.vectors.exemplar_hashes, dtype=object)
        for row, own in enumerate(exclude):
            similarity[row, hashes == own] = -np.inf
        slots, owners = self._exemplar_slots()
        padded = np.pad(similarity, ((0, 0), (0, 1)), constant_values=-np.inf)
        nearest = -np.sort(-padded[:, slots], axis=2)[:, :, : self.settings.exemplar_top]
        counts = np.isfinite(nearest).sum(2)
        means = np.where(np.isfinite(nearest), nearest, 0).sum(2) / np.maximum(counts, 1)
        term = np.zeros((len(images), len(self.vectors.names)), np.float32)
        for row in range(len(images)):
            present = counts[row] > 0
            if present.sum() >= 2 and (spread := means[row, present].std()) > 0:
                term[row, owners[present]] = (means[row, present] - means[row, present].mean()) / spread
        return term

    def _exemplar_slots(self) -> tuple[Rows, Rows]:
        """Return (Cx, M) exemplar rows per category that has some, padded with K, and those categories' rows (Cx,)."""
        offsets = self.vectors.exemplar_offsets
        counts = np.diff(offsets)
        owners = np.flatnonzero(counts)
        place = np.arange(counts.max(initial=0))
        slots = np.where(place < counts[owners, None], offsets[:-1][owners, None] + place, len(self.vectors.exemplars))
        return slots, owners

    def _add_region_terms(self, scores: Floats, features: ImageFeatures) -> None:
        w_r, w_o = self.settings.region, self.settings.region_name
        regions = self.visible_regions(features)
        plain = np.where(self.described, w_o, w_o + w_r).astype(np.float32)
        for rows in _chunks(len(self.vectors.names)):
            scores[:, rows] += plain[rows] * (
                max_over_regions(regions, self.vectors.names[rows]) - self.bias.region_name[rows]
            )
        if not w_r:
            return
        totals = np.zeros((len(regions), len(self.vectors.names)), np.float32)
        owner = np.repeat(np.arange(len(self.described)), np.diff(self.vectors.offsets))
        for rows in _chunks(len(self.vectors.bare)):
            best = max_over_regions(regions, self.vectors.bare[rows]) - self.bias.region[rows]
            first = np.flatnonzero(np.r_[True, np.diff(owner[rows]) > 0])
            totals[:, owner[rows][first]] += np.add.reduceat(best, first, axis=1)
        counts = np.maximum(np.diff(self.vectors.offsets), 1).astype(np.float32)
        scores += w_r * totals / counts

    def _region_term_of(self, row: int, regions: Floats) -> float:
        start, stop = self.vectors.offsets[row], self.vectors.offsets[row + 1]
        if start == stop:
            return float((regions @ self.vectors.names[row]).max() - self.bias.region_name[row])
        best = (self.vectors.bare[start:stop] @ regions.T).max(1)
        return float((best - self.bias.region[start:stop]).mean())

    def _measure_bias(self, reference: ImageFeatures) -> Bias:
        regions = self.visible_regions(reference)
        v = self.vectors
        return Bias(
            name=inner_products(reference.image, v.names).mean(0),
            grounded=inner_products(reference.image, v.grounded).mean(0),
            region=_in_chunks(lambda rows: max_over_regions(regions, v.bare[rows]).mean(0), len(v.bare)),
            region_name=_in_chunks(lambda rows: max_over_regions(regions, v.names[rows]).mean(0), len(v.names)),
        )

    def _fold_bias(self) -> Floats:
        means = mean_by_category(self.bias.grounded[:, None], self.vectors.offsets, self.bias.name[:, None])
        folded: Floats = self.settings.name * self.bias.name + self.settings.description * means[:, 0]
        return folded.astype(np.float32)


def max_over_regions(regions: Sequence[Floats], texts: Floats) -> Floats:
    """Return for each image and text the similarity of the image's best region.

    Args:
        regions: per image (Q_i, D), Q_i >= 1.
        texts: (N, D).

    Returns:
        (B, N) float32: max_q <r_q, text>.
    """
    if not len(texts):
        return np.zeros((len(regions), 0), np.float32)
    starts = np.cumsum([0, *(len(r) for r in regions[:-1])])
    best: Floats = np.maximum.reduceat(inner_products(np.concatenate(regions), texts), starts, axis=0)
    return best


def log_normaliser(scores: Floats, temperature: float) -> NDArray[np.float64]:
    """Return log sum_c exp(score_c / temperature) per row, the denominator of every confidence of that image.

    Args:
        scores: (B, C) over all categories of the memory.
        temperature: > 0.

    Returns:
        (B,) float64.
    """
    scaled = scores.astype(np.float64) / temperature
    peak = scaled.max(1, keepdims=True)
    total: NDArray[np.float64] = peak[:, 0] + np.log(np.exp(scaled - peak).sum(1))
    return total


def _chunks(total: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK_ROWS, total)) for start in range(0, total, CHUNK_ROWS))


def _in_chunks(compute: Callable[[slice], Floats], total: int) -> Floats:
    return np.concatenate([np.zeros(0, np.float32), *(compute(rows) for rows in _chunks(total))])
