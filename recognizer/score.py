"""The score of an image against the categories of a memory: four weighted terms and that of the exemplars, exactly.

For image vector g, region vectors r_q and category c with name vector n_c, grounded descriptions v_cj, and bare
descriptions d_cj:

    s(i,c) = w_image_name <g, n_c> + w_image_description mean_j <g, v_cj>
           + w_region_description mean_j max_q <r_q, d_cj> + w_region_name max_q <r_q, n_c>
           + h(g, c)

A category without descriptions has its name as its only description. The sum has two forms here and nowhere else:
`Scorer.terms` gives the four terms of chosen categories, and `weigh` adds them up, beside
`Scorer.exemplar_term`, which is what the few-shot head says (`recognizer.exemplars`); `Scorer.score` gives the sums of
all categories, folded for search: the first two terms are linear in g, so they fold into one vector per category,
u_c = w_image_name n_c + w_image_description mean_j v_cj, and the region terms are one product in chunks with a maximum
over the regions. `Scorer.score` also adds the prior that a user may give, which is no term, for it compares nothing:
T log(p_c / mean p), see `recognizer.prior`.

The regions r_q of an image are those of enough weight that do not fill it. A region that covers most of the picture
shows what the whole picture shows, and an encoder that was trained on whole pictures sees it better in g than in the
mean of the region's tokens: there g stands in for the region, as it does where no region has enough weight. So regions
count where several things share a picture, and do no harm where one thing fills it.

Knows arrays only: no encoder, no images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory.index import inner_products
from memory.search import Fold
from memory.vectors import MemoryVectors, VectorRows, mean_by_category, rows_between
from recognizer.cores import share_out, single_threads
from recognizer.settings import ScoreSettings

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures
    from recognizer.exemplars import ExemplarHead
    from recognizer.stored_fit import StoredFit

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# Rows of text vectors per product: with 32 images of 100 regions one chunk of similarities is 50 MB, whatever the
# memory's size.
CHUNK_ROWS = 4096
# Texts that a thread compares at a time: few enough that some thousand are shared out, and 5 % slower than one product.
_BLOCK_TEXTS = 640


@dataclass(frozen=True, slots=True, eq=False)
class Similarities:
    """What B images have in common with n categories, before descriptions are averaged and terms are weighted.

    Attributes:
        offsets: (n + 1,) the m descriptions of category i are the columns `offsets[i]` to `offsets[i + 1] - 1`.
        descriptions: (m,) rows of these descriptions in the memory.
        image_name: (B, n) cosine of image and name.
        image_description: (B, m) cosine of image and grounded description.
        region_description: (B, m) cosine of the best region and the bare description.
        region_name: (B, n) cosine of the best region and the name.
    """

    offsets: Rows
    descriptions: Rows
    image_name: Floats
    image_description: Floats
    region_description: Floats
    region_name: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PriorTerm:
    """What a prior adds to the scores.

    Attributes:
        logarithms: (C,) float64 log(prior / mean prior); -inf excludes a category.
        temperature: T, of the confidences.
    """

    logarithms: NDArray[np.float64]
    temperature: float

    @property
    def summands(self) -> Floats:
        """(C,) what the score of each category has in addition to its terms."""
        return (self.temperature * self.logarithms).astype(np.float32)


class Scorer:
    """Scores images against the categories of one memory under one set of weights.

    Args:
        vectors: the memory's vectors, C categories and J descriptions of D dimensions.
        settings: weights, which regions count and the head of the exemplars.
        prior: of the categories; None: all are equally common.
        fits: of the memory, as for `ExemplarHead`.
    """

    def __init__(
        self,
        vectors: MemoryVectors,
        settings: ScoreSettings,
        prior: PriorTerm | None = None,
        fits: StoredFit | None = None,
    ) -> None:
        """Keep what is scored, and how."""
        self._fits = fits
        self.vectors = vectors
        self.settings = settings
        self.prior = prior
        self.fold = Fold(
            settings.image_name, settings.image_description, settings.region_name, settings.region_description
        )
        alone = settings.region_name + settings.region_description  # where the name is the only description
        # (C,) weights of the best region's similarity to the name.
        self._by_region = np.where(np.diff(vectors.offsets) > 0, settings.region_name, alone).astype(np.float32)
        self._blocks = _blocks(vectors.offsets)

    @cached_property
    def folded(self) -> Floats:
        """(C, D) what is linear in the image vector; computed at the first use: not for search among proposals."""
        return self.fold.rows(self.vectors)

    def score(self, features: ImageFeatures, *, exclude: Sequence[str] = ()) -> Floats:
        """Score every category for every image, in the folded form.

        Args:
            features: of B images with Q regions each.
            exclude: per image the sha256 of its file; exemplars with that hash are left out for it. Empty: none is.

        Returns:
            (B, C) float32, columns in the memory's row order; equal to the weighed `terms` and the prior up to
            rounding, -inf for a category that the prior excludes.
        """
        return self.score_with(features, self.kernels(features.image), exclude=exclude)

    def score_with(self, features: ImageFeatures, kernels: Floats | None, *, exclude: Sequence[str] = ()) -> Floats:
        """Score as `score` does, with the `kernels` of the images."""
        scores = np.empty((len(features), len(self.vectors.names)), np.float32)
        _ = self.folded  # once, and not by several threads
        with single_threads():
            wanted = self.settings.region_description or self.settings.region_name
            regions = _Joined.of(self.visible_regions(features)) if wanted else None
            share_out(self._blocks, lambda block: self._score_block(scores, features.image, regions, block))
            if self.head is not None and kernels is not None:
                scores += self.head.term_of(kernels, exclude)
        if self.prior is not None:
            scores += self.prior.summands
        return scores

    def kernels(self, images: Floats) -> Floats | None:
        """Return (B, m) similarities of images (B, D) and exemplars, which the head weighs; None without a head."""
        if self.head is None:
            return None
        with single_threads():
            return self.head.kernels(images)

    @cached_property
    def head(self) -> ExemplarHead | None:
        """The few-shot head, fitted or read at the first use; None without exemplars, and where it is off."""
        if self.settings.head == "off" or not len(self.vectors.exemplars):
            return None
        from recognizer.exemplars import ExemplarHead  # with SciPy, which takes a quarter of a second to import

        return ExemplarHead(self.vectors, self.settings, self._fits)

    def exemplar_term(self, images: Floats, exclude: Sequence[str] = ()) -> Floats:
        """Return (B, C) what exemplars add for images (B, D), 0 without a head; `exclude` as in `score`."""
        if self.head is None:
            return np.zeros((len(images), len(self.vectors.names)), np.float32)
        return self.head.term(images, exclude)

    def terms(self, features: ImageFeatures, rows: Rows | None = None) -> NDArray[np.float32]:
        """Compute the four terms of some categories, whatever the weights are.

        Args:
            features: of B images.
            rows: (n,) category rows of the memory; all of them where None.

        Returns:
            (B, n, 4) float32, the last axis in the order of `TERMS`.
        """
        similar = self.similarities(features, rows)
        means = [
            mean_by_category(descriptions.T, similar.offsets, names.T).T
            for descriptions, names in (
                (similar.image_description, similar.image_name),
                (similar.region_description, similar.region_name),
            )
        ]
        return np.stack([similar.image_name, *means, similar.region_name], axis=2)

    def similarities(self, features: ImageFeatures, rows: Rows | None = None) -> Similarities:
        """Compare images with every text of some categories.

        Args:
            features: of B images.
            rows: as in `terms`.
        """
        vectors, regions = self.vectors, _Joined.of(self.visible_regions(features))
        names, grounded, bare = vectors.names, vectors.grounded, vectors.bare
        offsets, descriptions = vectors.offsets, np.arange(len(bare))
        if rows is not None:
            descriptions, offsets = rows_between(offsets, rows)
            names, grounded, bare = names[rows], grounded[descriptions], bare[descriptions]
        return Similarities(
            offsets=offsets,
            descriptions=descriptions,
            image_name=inner_products(features.image, names),
            image_description=inner_products(features.image, grounded),
            region_description=regions.best_in_chunks(bare),
            region_name=regions.best_in_chunks(names),
        )

    def visible_regions(self, features: ImageFeatures) -> list[Floats]:
        """Return the `visible_regions` under the settings."""
        return visible_regions(features, self.settings)

    def region_numbers(self, image: ImageFeatures) -> Rows:
        """Return which regions of one image have enough weight and do not fill it, ascending.

        Regions of low weight are masked, not multiplied: a small factor would raise a negative cosine.
        """
        heavy = image.region_weight[0] >= self.settings.region_threshold
        return np.flatnonzero(heavy & (image.region_area[0] <= self.settings.largest_region))

    def _score_block(self, scores: Floats, images: Floats, regions: _Joined | None, block: slice) -> None:
        """Write the folded and the region terms of a block of categories, never with all similarities at a time."""
        vectors, settings = self.vectors, self.settings
        found = inner_products(images, self.folded[block])
        if regions is not None:
            found += self._by_region[block] * regions.best_in_chunks(vectors.names[block])
        offsets = vectors.offsets[block.start : block.stop + 1]
        if regions is not None and settings.region_description and offsets[-1] > offsets[0]:
            best = regions.best_in_chunks(vectors.bare[offsets[0] : offsets[-1]])
            counts = np.diff(offsets)
            has = np.flatnonzero(counts)
            sums = np.zeros(found.shape, np.float32)
            # The descriptions of a category are neighbours, and categories without any leave no gap between them.
            sums[:, has] = np.add.reduceat(best, offsets[has] - offsets[0], axis=1)
            divisors: Floats = np.maximum(counts, 1).astype(np.float32)
            found += settings.region_description * sums / divisors
        scores[:, block] = found


def weigh(terms: NDArray[np.float32], settings: ScoreSettings) -> Floats:
    """Add up terms (..., 4) under the weights of the settings: the scores (...) float32, without head and prior."""
    scores: Floats = terms @ np.asarray(settings.weights(), np.float32)
    return scores


def visible_regions(features: ImageFeatures, settings: ScoreSettings) -> list[Floats]:
    """Return the vectors that are compared as regions, per image (Q_i, D), Q_i >= 1.

    They are those of `Scorer.region_numbers`, and behind them the image's own, if it stands in for a region that fills
    the picture, or because no region has enough weight.
    """
    heavy = features.region_weight >= settings.region_threshold
    own = heavy & (features.region_area <= settings.largest_region)
    stands_in = (heavy != own).any(axis=1) | ~own.any(axis=1)
    return [
        np.concatenate([regions[rows], image[None]]) if whole else regions[rows]
        for image, regions, rows, whole in zip(features.image, features.regions, own, stands_in.tolist(), strict=True)
    ]


def max_over_regions(regions: Sequence[Floats], texts: Floats) -> Floats:
    """Return for each image and text the similarity of the image's best region.

    Args:
        regions: per image (Q_i, D), Q_i >= 1.
        texts: (N, D).

    Returns:
        (B, N) float32: max_q <r_q, text>.

    Raises:
        ValueError: an image has no region.
    """
    return _Joined.of(regions).best(texts)


@dataclass(frozen=True, slots=True, eq=False)
class _Joined:
    """The regions of several images.

    Attributes:
        rows: (R, D), those of one image behind those of the others.
        edges: where the rows of each image begin, and R.
    """

    rows: Floats
    edges: Sequence[int]

    @classmethod
    def of(cls, regions: Sequence[Floats]) -> _Joined:
        return cls(np.concatenate(regions), [0, *accumulate(map(len, regions))])

    def best(self, texts: Floats) -> Floats:
        """Return the `max_over_regions`."""
        best = np.empty((len(self.edges) - 1, len(texts)), np.float32)
        similarity = inner_products(self.rows, texts)
        for image, (start, stop) in enumerate(pairwise(self.edges)):
            # A maximum per image: 12 to 28 times faster than `np.maximum.reduceat` over all rows, and the same bits. It
            # also refuses an image without regions, where `reduceat` would answer with the next image's first region.
            similarity[start:stop].max(axis=0, out=best[image])
        return best

    def best_in_chunks(self, texts: VectorRows) -> Floats:
        """Return the `max_over_regions` of any number of texts."""
        best = np.empty((len(self.edges) - 1, len(texts)), np.float32)
        for rows in _chunks(len(texts)):
            best[:, rows] = self.best(texts[rows])
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


def _blocks(offsets: Rows) -> list[slice]:
    """Return slices of categories that have about `_BLOCK_TEXTS` names and descriptions each."""
    texts = offsets + np.arange(len(offsets))
    cuts = np.searchsorted(texts, np.arange(0, texts[-1], _BLOCK_TEXTS))
    edges = np.unique(np.r_[cuts, len(offsets) - 1]).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _chunks(total: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK_ROWS, total)) for start in range(0, total, CHUNK_ROWS))
