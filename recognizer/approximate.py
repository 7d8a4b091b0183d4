"""The best categories of an image among those that an index proposes, with confidences over all categories.

The index proposes the nearest categories of each region, seen with the whole image (`memory.search`); their scores are
exact. A winner need not be among them, so the agreement with exact search is measured (`recognizer.agreement`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory.index import best_columns
from memory.mapped import DamagedBlock
from memory.vectors import Matrix, normalize_rows
from recognizer.cores import share_out, single_threads
from recognizer.hierarchy.tree import Tree
from recognizer.retrieval import Retrieved
from recognizer.score import Rows, Scorer, log_normaliser, weigh

if TYPE_CHECKING:
    from memory.search import MemoryIndex
    from memory.vectors import MemoryVectors
    from recognizer.encoder import ImageFeatures

# Categories that stand for all that are not proposed. With 4,096 of 100,000, and temperatures from 0.01 to 0.05,
# confidences were at most 0.019 from the exact ones, with 1,024 at most 0.025; a Gaussian fitted to them was 0.07 off.
SAMPLED = 4096
# Cosine from which on two regions are looked up as one. In pictures the starter's have .999 in the median. Of five
# 1.2 are left, which takes .38 of the time at 100,000 categories; the final ranking has .9958 of the exact ten best
# instead of .9974, and the same winners. At .999 2.7 are left, for the same ranking.
ALIKE = 0.99


class ApproximateRetriever:
    """Scores exactly what an index proposes, and the categories of the nearest exemplars.

    The normaliser of the confidences is the sum over the proposed categories, and an estimate for the others: a fixed
    random sample, scored exactly, each counted for as many as it stands for.

    Args:
        scorer: the exact score, without a prior, of which the index knows nothing.
        temperature: of the confidences.
        index: of the scorer's vectors and fold.
        depth: proposals per region; None: as many as were measured to be enough.
        sampled: how many categories stand for those that are not proposed.
        renew: builds the index again when a block of its file turns out to be damaged; None: that is an error.
    """

    def __init__(
        self,
        scorer: Scorer,
        temperature: float,
        index: MemoryIndex,
        *,
        depth: int | None = None,
        sampled: int = SAMPLED,
        renew: Callable[[], MemoryIndex] | None = None,
    ) -> None:
        """Draw the sample."""
        self.scorer = scorer
        self.temperature = temperature
        self.index = index
        self.depth = depth or index.depth
        self._renew = renew
        self._renewing = Lock()
        self._tree = Tree(scorer.vectors.categories)
        self._sample = sample_rows(scorer.vectors, sampled)
        drawn = scorer.vectors.take(self._sample)
        without_head = scorer.settings.model_copy(update={"head": "off"})
        self._sample_scorer = Scorer(
            replace(
                drawn,
                names=np.asarray(drawn.names, np.float32),
                grounded=np.asarray(drawn.grounded, np.float32),
                bare=np.asarray(drawn.bare, np.float32),
            ),
            without_head,
        )

    def retrieve(self, features: ImageFeatures, k: int, *, exclude: Sequence[str] = ()) -> list[Retrieved]:
        """Return the best among the proposed categories, fewer than k where fewer are proposed."""
        regions = [distinct(each) for each in self.scorer.visible_regions(features)]
        _ = self.scorer.head  # fitted once, and not by several threads
        with single_threads():
            sampled = self._sample_scorer.score(features)
            depth = max(self.depth, k)
            at_once = self._proposed(features.image, regions, depth) if self.index.is_on_gpu else None

            def retrieve_one(image: int) -> Retrieved:
                one = features.take(image)
                rows = at_once[image] if at_once else self._proposed(one.image, [regions[image]], depth)[0]
                return self._best(one, rows, sampled[image], k, exclude[image : image + 1])

            return share_out(range(len(features)), retrieve_one)

    def _proposed(self, images: Matrix, regions: Sequence[Matrix], depth: int) -> list[Rows]:
        """Return what the index proposes for images (B, D); built anew once, where it turns out to be damaged."""
        index = self.index
        try:
            return index.propose(images, regions, depth)
        except DamagedBlock:
            if self._renew is None:
                raise
            with self._renewing:
                if self.index is index:
                    self.index = self._renew()
            return self.index.propose(images, regions, depth)

    def _best(
        self, image: ImageFeatures, proposed: Rows, sampled: NDArray[np.float32], k: int, exclude: Sequence[str]
    ) -> Retrieved:
        """Return the best for one image.

        Args:
            image: its features.
            proposed: ascending rows of categories.
            sampled: scores of the sample, without a head.
            k: how many.
            exclude: as in `Scorer.score`.
        """
        head = self.scorer.head
        if head is not None:
            proposed = np.union1d(proposed, head.nearest_categories(image.image[0], self.depth))
        scores = weigh(self.scorer.terms(image, proposed), self.scorer.settings)[0]
        others = ~np.isin(self._sample, proposed)
        rest = sampled[others]
        if head is not None:
            exemplars = self.scorer.exemplar_term(image.image, exclude)[0]
            scores, rest = scores + exemplars[proposed], rest + exemplars[self._sample[others]]
        if not len(scores):
            return Retrieved(proposed, scores, np.zeros(0))
        # Each sampled category stands for so many; all of them are counted by their exponentials.
        stands_for = (len(self.scorer.vectors.names) - len(proposed)) / max(len(rest), 1)
        weighed = rest + np.float32(self.temperature * np.log(stands_for)) if len(rest) else rest
        normaliser = log_normaliser(np.concatenate([scores, weighed])[None], self.temperature)[0]

        def shares(values: NDArray[np.float32]) -> NDArray[np.float64]:
            parts: NDArray[np.float64] = np.exp(values.astype(np.float64) / self.temperature - normaliser)
            return parts

        best = best_columns(scores[None], k)[0]
        groups = None
        if len(self._tree):
            counted = np.concatenate([proposed, self._sample[others]])
            sums = self._tree.sums(counted, shares(np.concatenate([scores, weighed])))
            groups = self._tree.shown(sums, proposed[best])
        return Retrieved(proposed[best], scores[best], shares(scores[best]), groups)


def distinct(regions: Matrix) -> Matrix:
    """Return what to look up for the regions of an image: one direction for all that are `ALIKE` the first of them.

    Args:
        regions: (Q, D) unit rows.

    Returns:
        (n, D) unit rows, 1 <= n <= Q: of a region that is like no other the row itself, of others their mean.
    """
    alike = regions @ regions.T >= ALIKE
    left = np.ones(len(regions), bool)
    found = []
    for first in range(len(regions)):
        if left[first]:
            group = alike[first] & left
            group[first] = True
            left &= ~group
            found.append(regions[first] if group.sum() == 1 else normalize_rows(regions[group].mean(axis=0)))
    return np.stack(found)


def sample_rows(vectors: MemoryVectors, number: int) -> Rows:
    """Return up to `number` ascending rows of categories, the same for memories of the same size; all, if fewer."""
    total = len(vectors.names)
    return np.sort(np.random.default_rng(0).choice(total, min(number, total), replace=False)).astype(np.int64)
