"""The example images of a memory as a few-shot head, and what it says of them.

The head is fitted to the score of the whole image, names and descriptions in equal parts, whatever the weights of the
score are: so its term stands beside the weighted terms, and fitting these does not change it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memory import Memory
from memory.search import Fold
from memory.vectors import MemoryVectors
from recognizer.heads.choice import choose_constants
from recognizer.heads.constants import PRIOR, Constants
from recognizer.heads.kernel_ridge import KernelRidge, evenly
from recognizer.heads.pairs import disputed_pairs
from recognizer.heads.residual import Floats, Rows, Shots
from recognizer.settings import ScoreSettings
from recognizer.stored_fit import StoredFit

MOST = 16384
"""Exemplars that are used; of more, the first ones of each category. Fitting 16,000 takes 10 s
(`tests/benchmarks/heads.py`); all of 100,000 would take 36 s, and more memory."""


class Weighed(NamedTuple):
    """An exemplar beside an image.

    Attributes:
        reference: where it is; empty for all that are not named one by one.
        similarity: exp(-beta (1 - cosine)); 1 where `reference` is empty.
        coefficient: of the category; times the similarity it is what the exemplar adds to the score.
    """

    reference: str
    similarity: float
    coefficient: float


@dataclass(frozen=True, slots=True)
class Doubted:
    """An exemplar that the others of its category contradict, or the only other one.

    Attributes:
        reference: where it is.
        category: whose exemplar it is.
        rival: the category that it looks like without its own vote.
    """

    reference: str
    category: str
    rival: str


class ExemplarHead:
    """The head of a memory.

    Args:
        vectors: of a memory with at least one exemplar.
        settings: whose `head` is `auto` or `proker`.
        fits: where an earlier fit may be, and this one is stored; None: nowhere.
    """

    def __init__(self, vectors: MemoryVectors, settings: ScoreSettings, fits: StoredFit | None = None) -> None:
        """Fit it."""
        self._vectors = vectors
        fit = None if fits is None else fits.read()
        self._used, shots = memory_shots(vectors, None if fit is None else fit.spread)
        if fit is not None:
            self._ridge = KernelRidge(shots, fit.constants, fit)
        else:
            constants = Constants(settings.head_beta or PRIOR.beta, settings.head_ridge or PRIOR.ridge)
            self._ridge = KernelRidge(shots, choose_constants(shots) if settings.head == "auto" else constants)
            if fits is not None:
                fits.write(self._ridge.fit)
        self._places: dict[str, list[int]] = {}
        for place, row in enumerate(self._used.tolist()):
            self._places.setdefault(vectors.exemplar_hashes[row], []).append(place)

    @property
    def constants(self) -> Constants:
        """Those of the fit."""
        return self._ridge.constants

    def term(self, images: Floats, exclude: Sequence[str] = ()) -> Floats:
        """Return (B, C) what is added to the scores of images (B, D); `exclude` as in `Scorer.score`."""
        return self.term_of(self.kernels(images), exclude)

    def kernels(self, images: Floats) -> Floats:
        """Return (B, m) the similarities of images (B, D) and exemplars from which the term follows."""
        return self._ridge.kernel(images)

    def term_of(self, kernels: Floats, exclude: Sequence[str] = ()) -> Floats:
        """Return what `term` returns, from the `kernels` of the images."""
        return self._ridge.term_of(kernels, [self._of_file(digest) for digest in exclude])

    def nearest_categories(self, image: Floats, count: int) -> Rows:
        """Return the categories of the exemplars that are nearest to an image (D,), at most `count` exemplars."""
        nearest = np.argsort(-(self._ridge.shots.vectors @ image), kind="stable")[:count]
        return np.unique(self._ridge.shots.labels[nearest])

    def weighed(self, kernels: Floats, rows: Sequence[int], exclude: str, shown: int) -> list[list[Weighed]]:
        """Take the term of some categories apart.

        Args:
            kernels: (m,) those of the image.
            rows: categories.
            exclude: the hash of the image's file, or empty.
            shown: exemplars named one by one, those that add or take away most; one piece holds all others and the
                shift of the head.

        Returns:
            Per category its pieces; similarity times coefficient adds up to the term.
        """
        gone, chosen = self._of_file(exclude), list(rows)
        whole = self._ridge.coefficients_without(gone) if len(gone) else self._ridge.coefficients
        coefficients = whole[chosen]
        contributions = kernels * coefficients
        places = _largest(np.abs(contributions), shown)
        named = np.take_along_axis(contributions, places, axis=1)
        rest = contributions.sum(axis=1, dtype=np.float64) - named.sum(axis=1, dtype=np.float64)
        rest -= self._ridge.shifts(gone)[chosen]
        references = self._vectors.exemplar_references
        columns = (
            self._used[self._ridge.basis[places]].tolist(),
            kernels[places].tolist(),
            np.take_along_axis(coefficients, places, axis=1).tolist(),
            rest.tolist(),
        )
        return [
            [
                *(
                    Weighed(references[number], similarity, coefficient)
                    for number, similarity, coefficient in zip(*each, strict=True)
                    if similarity * coefficient
                ),
                Weighed("", 1.0, others),
            ]
            for *each, others in zip(*columns, strict=True)
        ]

    def doubted(self) -> list[Doubted]:
        """List the exemplars that vote wrong when they are left out, in the memory's order."""
        return [self._doubted(place, rival) for place, rival in self._ridge.doubted]

    def disputed(self) -> list[Doubted]:
        """List both exemplars of the categories that have two, where these contradict each other."""
        pairs = disputed_pairs(self._ridge.shots, self.constants)
        return [self._doubted(place, rival) for place, rival in pairs]

    def _doubted(self, place: int, rival: int) -> Doubted:
        categories = self._vectors.categories
        return Doubted(
            self._vectors.exemplar_references[self._used[place]],
            categories[self._ridge.shots.labels[place]].name,
            categories[rival].name,
        )

    def _of_file(self, digest: str) -> Rows:
        return np.array(self._places.get(digest, []), np.int64)


def _largest(sizes: Floats, count: int) -> Rows:
    """Return what `best_columns` does of (n, m) sizes of at least 0, which are overwritten; quicker for a few."""
    rows = np.arange(len(sizes))
    found = np.empty((len(sizes), min(count, sizes.shape[1])), np.int64)
    for place in range(found.shape[1]):
        found[:, place] = sizes.argmax(axis=1)
        sizes[rows, found[:, place]] = -1
    return found


def memory_shots(vectors: MemoryVectors, spread: float | None = None) -> tuple[Rows, Shots]:
    """Return the rows of the exemplars that are used, and these beside the texts of the categories.

    Args:
        vectors: of a memory.
        spread: of an earlier fit; None: it is measured here.
    """
    labels = np.repeat(np.arange(len(vectors.names)), np.diff(vectors.exemplar_offsets))
    used = evenly(labels, MOST)
    return used, Shots.of(vectors.exemplars[used], labels[used], Fold().rows(vectors), spread)


def chosen_settings(vectors: MemoryVectors) -> dict[str, str | float]:
    """Return the settings of the head that fits a memory's exemplars; none for a memory without exemplars."""
    if not len(vectors.exemplars):
        return {}
    constants = choose_constants(memory_shots(vectors)[1])
    return {"head": "proker", "head_beta": constants.beta, "head_ridge": constants.ridge}


def store_head(memory: Memory) -> None:
    """Choose the head for the exemplars of a memory, and store it with the memory's settings."""
    settings = memory.settings
    score = settings.pop("score", {})
    if "exemplar" in score:  # of an earlier release, which stored its default weights with the exemplars
        score = {}
    score = {key: value for key, value in score.items() if not key.startswith("head")} | chosen_settings(memory.vectors)
    if score:
        settings["score"] = score
    if settings != memory.settings:
        memory.store_settings(settings)


def equal_images(vectors: MemoryVectors, hashes: Collection[str] | None = None) -> list[tuple[str, ...]]:
    """Return the references of exemplars whose files, of some hashes or any, are equal and whose categories are not."""
    labels = np.repeat(np.arange(len(vectors.names)), np.diff(vectors.exemplar_offsets)).tolist()
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(vectors.exemplar_hashes):
        if hashes is None or digest in hashes:
            places.setdefault(digest, []).append(place)
    return [
        tuple(vectors.exemplar_references[place] for place in same)
        for same in places.values()
        if len({labels[place] for place in same}) > 1
    ]
