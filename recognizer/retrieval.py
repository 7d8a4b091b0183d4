"""The best categories of an image, by scoring all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.index import best_columns
from recognizer.hierarchy.tree import Tree
from recognizer.score import Rows, Scorer, log_normaliser

if TYPE_CHECKING:
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


def _retrieved(
    scores: NDArray[np.float32],
    best: Rows,
    temperature: float,
    normaliser: float,
    tree: Tree,
    kernels: NDArray[np.float32] | None = None,
) -> Retrieved:
    """Keep the best of all categories."""

    def confidences(columns: Rows | slice) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = np.exp(scores[columns].astype(np.float64) / temperature - normaliser)
        return shares

    sums = tree.shown(tree.sums(np.arange(len(scores)), confidences(slice(None))), best) if len(tree) else None
    return Retrieved(best, scores[best], confidences(best), sums, kernels)


def _nothing() -> Retrieved:
    return Retrieved(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0))
