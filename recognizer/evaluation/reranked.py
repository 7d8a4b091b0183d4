"""Accuracy of reranking on labelled images, between that of retrieval and that of an oracle that never errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory import Category
from recognizer.evaluation.metrics import Accuracy, measure
from recognizer.reranking.stage import RowBatch, rerank_in_background
from recognizer.results import ResultRow
from recognizer.settings import Settings
from rerank.counts import RerankCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from rerank.reranker import MllmReranker

RERANKED = "+ rerank"
ORACLE = "oracle rerank"
Ranks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How reranking changed the top-1 recall of one category."""

    category: str
    images: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, eq=False)
class RerankEvaluation:
    """The accuracy that reranking reached, and its cost.

    Attributes:
        rows: accuracy after reranking, and that of the oracle, which puts the truth first if it is among the k.
        ceiling_share: gain in top-1 as a share of the oracle's gain; None if the oracle gains nothing.
        changes: categories whose top-1 recall changed, the largest change in images first.
        cost: requests, tokens and seconds; images asked about, cached, skipped and failed.
        ranks: (N,) of the truth after reranking, from 1.
        predicted: (N) names of the best candidates after reranking; empty for a row without candidates.
    """

    rows: Mapping[str, Accuracy]
    ceiling_share: float | None
    changes: Sequence[ClassChange]
    cost: RerankCounts
    ranks: Ranks
    predicted: Sequence[str]


def evaluate_reranking(
    batches: Sequence[RowBatch],
    truth: Sequence[int],
    before: Ranks,
    *,
    categories: Sequence[Category],
    reranker: MllmReranker,
    settings: Settings,
    progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> RerankEvaluation:
    """Rerank retrieval's rows and rank the truth in them.

    Args:
        batches: retrieval's rows with their images.
        truth: (N) true category of each result row, as a row of the memory.
        before: (N,) rank of the truth among all categories by retrieval, from 1.
        categories: of the memory.
        reranker: whose MLLM is asked.
        settings: when to ask, and the limits of image decoding.
        progress: called with the number of images done since the last call.
        seed: of the bootstrap.
    """
    after: list[int] = []
    oracle: list[int] = []
    predicted: list[str] = []
    number = 0
    for batch in rerank_in_background(
        iter(batches), reranker, settings.rerank, score=settings.score, limits=settings.images
    ):
        for row in batch.rows:
            if isinstance(row, ResultRow):
                category = categories[truth[number]]
                place = place_of(row, category)
                after.append(int(before[number]) if place < 0 else place + 1)
                oracle.append(int(before[number]) if place < 0 else 1)
                predicted.append(row.label or "")
                number += 1
        if progress:
            progress(len(batch.rows))
    classes = np.array(truth)
    ranks = {RERANKED: np.array(after, np.int64), ORACLE: np.array(oracle, np.int64)}
    top1 = [float((ranks <= 1).mean()) for ranks in (before, ranks[RERANKED], ranks[ORACLE])]
    return RerankEvaluation(
        rows={name: measure(values, classes, seed=seed) for name, values in ranks.items()},
        ceiling_share=(top1[1] - top1[0]) / (top1[2] - top1[0]) if top1[2] > top1[0] else None,
        changes=class_changes([category.name for category in categories], classes, before, ranks[RERANKED]),
        cost=reranker.counts,
        ranks=ranks[RERANKED],
        predicted=predicted,
    )


def class_changes(names: Sequence[str], truth: Ranks, before: Ranks, after: Ranks) -> list[ClassChange]:
    """Compare top-1 recall by category; categories without a change are left out."""
    changes = [
        ClassChange(
            names[row],
            int((truth == row).sum()),
            float((before[truth == row] <= 1).mean()),
            float((after[truth == row] <= 1).mean()),
        )
        for row in np.unique(truth)
    ]
    return sorted((c for c in changes if c.before != c.after), key=lambda c: -abs(c.after - c.before) * c.images)


def place_of(row: ResultRow, category: Category) -> int:
    """Return the position of a category among the candidates of a row, from 0; -1 if it is not among them."""
    names = [(candidate.category, candidate.group) for candidate in row.candidates]
    truth = (category.name, category.group)
    return names.index(truth) if truth in names else -1
