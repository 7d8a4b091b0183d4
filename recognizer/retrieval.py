"""The best categories of an image: by scoring all of them, or the union of what two approximate indexes propose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from memory import Memory
from memory.index import best_columns
from recognizer.hierarchy.tree import Tree
from recognizer.score import Rows, Scorer, log_normaliser, weigh

if TYPE_CHECKING:
    from memory.search import MemoryIndex
    from recognizer.encoder import ImageFeatures


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The best categories of one image.

    Attributes:
        rows: (k,) category rows of the memory, best first.
        scores: (k,) float32.
        confidences: (k,) float64, softmax(score / temperature) over every category that was scored.
        groups: by path of a group, the sum of the confidences of all categories below it, largest first: the k largest
            groups and those of the k categories with all above them; None where no category has a group.
        kernels: (m,) float32 similarities to the exemplars, for the evidence; None without exemplars.
    """

    rows: Rows
    scores: NDArray[np.float32]
    confidences: NDArray[np.float64]
    groups: Mapping[str, float] | None = None
    kernels: NDArray[np.float32] | None = None


class Retriever(Protocol):
    """Finds the best categories of each image of a batch; `temperature` is that of the confidences."""

    temperature: float

    def retrieve(self, features: ImageFeatures, k: int, *, exclude: Sequence[str] = ()) -> list[Retrieved]:
        """Return min(k, C) categories per image; `exclude` as in `Scorer.score`."""
        ...


class ExactRetriever:
    """Scores every category; `temperature` is that of the confidences."""

    def __init__(self, scorer: Scorer, temperature: float) -> None:
        """Keep the scorer and the temperature."""
        self.scorer = scorer
        self.temperature = temperature
        self._tree = Tree(scorer.vectors.categories)

    def retrieve(self, features: ImageFeatures, k: int, *, exclude: Sequence[str] = ()) -> list[Retrieved]:
        """Return the true best categories that the prior does not exclude; cost O(B * (C + Q * J) * D)."""
        kernels = self.scorer.kernels(features.image)
        scores = self.scorer.score_with(features, kernels, exclude=exclude)
        if not scores.shape[1]:
            return [_nothing() for _ in scores]
        best = best_columns(scores, k)
        normaliser = log_normaliser(scores, self.temperature)
        return [
            _retrieved(
                scores[image],
                rows[scores[image, rows] > -np.inf],
                self.temperature,
                normaliser[image],
                self._tree,
                kernels=None if kernels is None else kernels[image],
            )
            for image, rows in enumerate(best)
        ]


class ApproximateRetriever:
    """Scores exactly what two HNSW indexes propose: the nearest categories of the image and of every region.

    The categories of the nearest exemplars are proposed as well. The winner of a sum need not lead any list, so this is
    approximate search; its recall is measured when the memory is built. Confidences are relative to the proposed
    categories.

    Args:
        scorer: the exact score, without a prior, of which the indexes know nothing.
        temperature: of the confidences.
        index: over the folded category vectors and over the bare descriptions.
        depth: proposals per query and wanted category. With 8, at 20,000 categories, all of the 5 best categories of
            exact search were found (`tests/benchmarks/scoring.py`).
    """

    def __init__(self, scorer: Scorer, temperature: float, index: MemoryIndex, *, depth: int = 8) -> None:
        """Keep the scorer and the indexes."""
        self.scorer = scorer
        self.temperature = temperature
        self.index = index
        self.depth = depth
        self._tree = Tree(scorer.vectors.categories)

    def retrieve(self, features: ImageFeatures, k: int, *, exclude: Sequence[str] = ()) -> list[Retrieved]:
        """Return the best among the proposed categories."""
        if not len(self.scorer.vectors.names):
            return [_nothing() for _ in features.image]
        _, by_image = self.index.categories.search(features.image, k * self.depth)
        found = []
        for image, regions in enumerate(self.scorer.visible_regions(features)):
            _, by_region = self.index.descriptions.search(regions, k * self.depth)
            proposed = [by_image[image], self.index.description_categories[by_region.ravel()]]
            if self.scorer.head is not None:
                proposed.append(self.scorer.head.nearest_categories(features.image[image], k * self.depth))
            rows = np.unique(np.concatenate(proposed))
            one = features.take(image)
            scores = weigh(self.scorer.terms(one, rows), self.scorer.settings)[0]
            scores += self.scorer.exemplar_term(one.image, exclude[image : image + 1])[0, rows]
            best = best_columns(scores[None], k)[0]
            normaliser = log_normaliser(scores[None], self.temperature)[0]
            found.append(_retrieved(scores, best, self.temperature, normaliser, self._tree, proposed=rows))
        return found


def make_retriever(memory: Memory, scorer: Scorer, *, temperature: float, approximate: bool) -> Retriever:
    """Choose the search: exact, or through the memory's indexes, which are rebuilt for other tables or weights.

    For `approximate`, the scorer must have all categories of the memory.
    """
    if not approximate:
        return ExactRetriever(scorer, temperature)
    return ApproximateRetriever(scorer, temperature, memory.index(scorer.fold))


def _retrieved(
    scores: NDArray[np.float32],
    best: Rows,
    temperature: float,
    normaliser: float,
    tree: Tree,
    *,
    proposed: Rows | None = None,
    kernels: NDArray[np.float32] | None = None,
) -> Retrieved:
    """Keep the best of the scored categories, which are those in `proposed`, or all."""

    def confidences(columns: Rows | slice) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = np.exp(scores[columns].astype(np.float64) / temperature - normaliser)
        return shares

    scored = np.arange(len(scores)) if proposed is None else proposed
    found = scored[best]
    sums = tree.shown(tree.sums(scored, confidences(slice(None))), found) if len(tree) else None
    return Retrieved(found, scores[best], confidences(best), sums, kernels)


def _nothing() -> Retrieved:
    return Retrieved(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0))
