"""Exact search, or search among proposals where that agrees with it; measured on images made of the memory's texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from memory import Memory
from memory.search import ASKED_RECALL, NOISE, JointRows, MemoryIndex, StoredIndex
from memory.vectors import normalize_rows
from recognizer.approximate import ApproximateRetriever
from recognizer.encoder import ImageFeatures
from recognizer.retrieval import ExactRetriever, Retrieved, Retriever
from recognizer.score import Scorer

ASKED_WINNERS = 0.995
"""Share of images whose exact winner has to be among the proposals."""
ASKED_CONFIDENCE = 0.02
"""Largest difference between a confidence and the exact one."""
# Each further image adds little: at 0.995 the standard error of the share of winners is 0.004.
_IMAGES = 256
_REGIONS = 5
_BEST = 10
_BATCH = 16
# How much of a region is what the whole image shows: two regions have a cosine of 0.75, image and region 0.8. Real ones
# of the starter have 0.998 and 0.89 in the median; regions that are less alike need more proposals.
_SHARED = 1.75
# Proposals per region: where tuning starts, and where it ends. Scoring 1,024 takes 10 ms.
_LEAST_DEPTH = 32
MOST_DEPTH = 1024


def make_retriever(memory: Memory, scorer: Scorer, *, temperature: float, approximate: bool) -> Retriever:
    """Choose the search: exact, or through the memory's index, which is rebuilt for other tables or weights.

    For `approximate`, the scorer must have all categories of the memory. An index whose agreement with exact search was
    not measured yet is measured now; one that does not agree enough is not used.
    """
    if approximate:
        index = memory.index(scorer.fold)
        if index.kind != "exact" and not index.depth:
            index = measured(index, scorer, temperature)
            memory.store_index_figures(index)
        if index.kind != "exact" and index.depth > 0:
            renew = partial(memory.index, scorer.fold, anew=True)
            return ApproximateRetriever(scorer, temperature, index, renew=renew)
    return ExactRetriever(scorer, temperature)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What search among proposals has in common with scoring everything.

    Attributes:
        ranking: recall of the exact 10 best categories in the final ranking, mean over images.
        winner: share of images whose exact best category is found as the best.
        confidence: largest difference between the confidence of a category, of the 10 best, and the exact one.
    """

    ranking: float
    winner: float
    confidence: float

    @property
    def is_enough(self) -> bool:
        """Whether all three are as asked."""
        return self._misses_at_most(1.0)

    @property
    def is_aimed(self) -> bool:
        """Whether half as much is missed as may be: real pictures agree a little less than made-up ones."""
        return self._misses_at_most(0.5)

    @property
    def missed(self) -> float:
        """What is missed of rankings and winners, each in parts of what may be."""
        return (1 - self.ranking) / (1 - ASKED_RECALL) + (1 - self.winner) / (1 - ASKED_WINNERS)

    def _misses_at_most(self, share: float) -> bool:
        """Say whether at most a share of what may be missed is."""
        ranking, winner = 1 - share * (1 - ASKED_RECALL), 1 - share * (1 - ASKED_WINNERS)
        return self.ranking >= ranking and self.winner >= winner and self.confidence <= ASKED_CONFIDENCE

    @property
    def figures(self) -> dict[str, float]:
        """By name, for the memory."""
        shares = {"ranking": self.ranking, "winner": self.winner, "confidence": self.confidence}
        return {name: round(share, 4) for name, share in shares.items()}


def measured(index: MemoryIndex, scorer: Scorer, temperature: float) -> MemoryIndex:
    """Return an index that proposes so many, and searches so wide, that it agrees with exact search as well as aimed.

    First proposals are doubled, then the width of the search, each as long as that helps. Warns, and returns a depth of
    -1, where the index does not agree enough then.

    Args:
        index: of the scorer's vectors and fold; its `main` may get wider.
        scorer: the exact score.
        temperature: of the confidences.
    """
    batches = list(_features(scorer))
    exact = ExactRetriever(Scorer(scorer.vectors, scorer.settings), temperature)  # its folded rows go with it
    expected = [one for batch in batches for one in exact.retrieve(batch, _BEST)]
    del exact
    retriever = ApproximateRetriever(scorer, temperature, index, depth=_LEAST_DEPTH)

    def agree() -> Agreement:
        return compare(expected, [one for batch in batches for one in retriever.retrieve(batch, _BEST)])

    agreement = agree()
    while not agreement.is_aimed and retriever.depth < MOST_DEPTH:
        retriever.depth *= 2
        deeper = agree()
        if deeper.missed >= agreement.missed:
            retriever.depth //= 2
            break
        agreement = deeper
    main = index.main
    while isinstance(main, StoredIndex) and not agreement.is_aimed and main.effort < main.most_effort:
        before, main.effort = main.effort, min(2 * main.effort, main.most_effort)
        wider = agree()
        if wider.missed >= agreement.missed:
            main.effort = before
            break
        agreement = wider
    figures = {**index.figures, **agreement.figures}
    if agreement.is_enough:
        return replace(index, depth=retriever.depth, figures=figures)
    warnings.warn(
        f"the {index.kind} index does not agree with exact search (ranking {agreement.ranking:.3f}, winners "
        f"{agreement.winner:.3f}, confidences within {agreement.confidence:.3f}), so search is exact; "
        "try another --index",
        stacklevel=2,
    )
    return replace(index, depth=-1, figures=figures)


def compare(expected: list[Retrieved], found: list[Retrieved]) -> Agreement:
    """Compare the rankings of search among proposals with exact ones, image by image, of equal lengths."""
    hits, winners, differences = [], [], [0.0]
    for one, other in zip(expected, found, strict=True):
        # A category that scores as much as the last one is as good.
        reached = other.scores >= one.scores[-1] - 1e-5
        hits.append(float(reached.sum()) / len(one.rows))
        winners.append(bool(len(other.scores)) and other.scores[0] >= one.scores[0] - 1e-5)
        places = {row: place for place, row in enumerate(other.rows.tolist())}
        differences += [
            abs(float(one.confidences[place] - other.confidences[places[row]]))
            for place, row in enumerate(one.rows.tolist())
            if row in places
        ]
    return Agreement(float(np.mean(hits)), float(np.mean(winners)), max(differences))


def _features(scorer: Scorer) -> Iterator[ImageFeatures]:
    """Yield made-up images: each shows one category, and in each of its regions beside it another one."""
    vectors, generator = scorer.vectors, np.random.default_rng(0)
    number, dim = vectors.names.shape
    rows = JointRows(vectors, scorer.fold)
    for start in range(0, min(_IMAGES, number), _BATCH):
        size = min(_BATCH, min(_IMAGES, number) - start)
        shown = generator.integers(number, size=(size, 1 + _REGIONS))
        joint = np.stack([rows.take(of_image) for of_image in shown])
        sides = normalize_rows(joint.reshape(size, 1 + _REGIONS, -1, dim))
        noise = generator.standard_normal((size, 1 + _REGIONS, dim), np.float32) * np.float32(NOISE / np.sqrt(dim))
        seen = normalize_rows(sides[:, :, -1] + noise)
        yield ImageFeatures(
            image=normalize_rows(sides[:, 0, 0] + noise[:, 0]),
            regions=normalize_rows(_SHARED * seen[:, :1] + seen[:, 1:]),
            boxes_xyxy=np.zeros((size, _REGIONS, 4), np.float32),
            region_weight=np.ones((size, _REGIONS), np.float32),
            region_area=np.zeros((size, _REGIONS), np.float32),
        )
