"""Accuracy on a labelled set, with each part of the score switched on in turn.

All rows of the table come from one pass over the images. The control row gives every category the descriptions of
another one: a gain that survives this shuffling does not come from the descriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory import Description, Memory
from memory.templates import bare_text, grounded_texts
from memory.vectors import MemoryVectors, unit_mean
from recognizer.encoder import Encoder
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.labelled import LabelledSet
from recognizer.evaluation.metrics import Accuracy, confusions, measure, truth_ranks
from recognizer.evaluation.reranked import RerankEvaluation, evaluate_reranking
from recognizer.recognizer import Recognizer
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch
from recognizer.results import BatchTiming
from recognizer.score import Scorer, weigh
from recognizer.settings import ScoreSettings

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker

Ranks = NDArray[np.int64]

NAMES = "names"
CONTROL = "+ shuffled descriptions (control)"


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """Recall of one category under the last row of the table."""

    category: str
    images: int
    top1: float
    top5: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        rows: accuracy per way of scoring, in the order they are switched on.
        images: how many images were ranked.
        failed: how many could not be decoded, by error code.
        unmatched: labels that name no category, with the number of their images.
        per_class: recall of each category, in the memory's order: after reranking if an MLLM was asked, else under the
            last row.
        confusions: the most frequent (truth, prediction, count), likewise.
        rerank: how an MLLM changed the order of `run`; None where none was asked.
    """

    rows: Mapping[str, Accuracy]
    images: int
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]
    per_class: Sequence[ClassRecall]
    confusions: Sequence[tuple[str, str, int]]
    rerank: RerankEvaluation | None = None


def evaluate(
    recognizer: Recognizer,
    labelled: LabelledSet,
    *,
    reranker: MllmReranker | None = None,
    progress: Callable[[int], None] | None = None,
    rerank_progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Rank the true category of every image under each way of scoring.

    Args:
        recognizer: encoder, memory and settings.
        labelled: images with the rows of their categories.
        reranker: an MLLM that orders the candidates that `run` would find.
        progress: called with the number of images done since the last call.
        rerank_progress: the same for reranking, which comes after.
        seed: of the shuffling and of the bootstrap.

    Raises:
        ValueError: not one image could be decoded.
    """
    ways = ways_of_scoring(recognizer)
    last = list(ways)[-1]
    control = None
    if CONTROL in ways:
        control = Scorer(shuffle_descriptions(recognizer.memory, recognizer.encoder, seed=seed), ways[CONTROL])
    ranks: dict[str, list[Ranks]] = {name: [] for name in ways}
    truth: list[int] = []
    predicted: list[int] = []
    retrieved: list[RowBatch] = []
    retrieved_ranks: list[Ranks] = []
    failures = Failures()
    for batch in encode_labelled(
        recognizer.encoder,
        labelled.items,
        labelled.rows,
        failures,
        settings=recognizer.settings,
        features=recognizer.features,
        progress=progress,
    ):
        truth.extend(batch.rows.tolist())
        terms = recognizer.scorer.terms(batch.features, exclude=batch.hashes)
        scores = {name: weigh(terms, weights) for name, weights in ways.items()}
        if control is not None:
            scores[CONTROL] = control.score(batch.features, exclude=batch.hashes)
        for name in ways:
            ranks[name].append(truth_ranks(scores[name], batch.rows))
        predicted.extend(scores[last].argmax(1).tolist())
        if reranker is not None:
            rows = recognizer.rows(batch.features, batch.items, exclude=batch.hashes)
            images = [RankedImage(item, digest) for item, digest in zip(batch.items, batch.hashes, strict=True)]
            timing = BatchTiming(decode_s=0, encode_s=0, score_s=0)
            retrieved.append(RowBatch(list(rows), images, timing))
            retrieved_ranks.append(truth_ranks(weigh(terms, recognizer.settings.score), batch.rows))
    failed = failures.by_code()
    if not truth:
        raise ValueError(f"none of the {len(labelled.items)} images could be decoded: {failed}")
    true_rows = np.array(truth)
    categories = recognizer.memory.vectors.categories
    names = [category.name for category in categories]
    all_ranks = {name: np.concatenate(parts) for name, parts in ranks.items()}
    accuracies = {name: measure(values, true_rows, seed=seed) for name, values in all_ranks.items()}
    final_ranks, answers = all_ranks[last], [names[row] for row in predicted]
    reranked = None
    if reranker is not None:
        reranked = evaluate_reranking(
            retrieved,
            truth,
            np.concatenate(retrieved_ranks),
            categories=categories,
            reranker=reranker,
            settings=recognizer.settings,
            progress=rerank_progress,
            seed=seed,
        )
        accuracies |= reranked.rows
        final_ranks, answers = reranked.ranks, list(reranked.predicted)
    return Evaluation(
        rows=accuracies,
        images=len(truth),
        failed=failed,
        unmatched=labelled.unmatched,
        per_class=_per_class(names, true_rows, final_ranks),
        confusions=confusions([names[row] for row in truth], answers),
        rerank=reranked,
    )


def ways_of_scoring(recognizer: Recognizer) -> dict[str, ScoreSettings]:
    """Return the weights of each row of the table, by the row's name.

    Terms keep the proportions of the settings. Rows with descriptions are present if any category has some, the row
    with exemplars likewise.
    """
    score, vectors = recognizer.settings.score, recognizer.memory.vectors
    ways = {NAMES: score.only("image_name")}
    if len(vectors.bare):
        ways["+ descriptions"] = ways[CONTROL] = score.only("image_name", "image_description")
        ways["+ regions"] = score.only("image_name", "image_description", "region_description", "region_name")
    else:
        ways["+ regions"] = score.only("image_name", "region_name")
    if len(vectors.exemplars):
        ways["+ exemplars"] = score
    return ways


def _per_class(names: Sequence[str], truth: Ranks, ranks: Ranks) -> list[ClassRecall]:
    return [
        ClassRecall(
            category=names[row],
            images=int((truth == row).sum()),
            top1=float((ranks[truth == row] <= 1).mean()),
            top5=float((ranks[truth == row] <= 5).mean()),
        )
        for row in np.unique(truth)
    ]


def shuffle_descriptions(memory: Memory, encoder: Encoder, *, seed: int) -> MemoryVectors:
    """Give every described category the descriptions of another one, grounded in its own name.

    Args:
        memory: the source of the descriptions; is not changed.
        encoder: of the memory; encodes the new grounded texts.
        seed: of the pairing.
    """
    vectors = memory.vectors
    described = np.flatnonzero(np.diff(vectors.offsets))
    order = np.random.default_rng(seed).permutation(described)
    donor = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    texts: list[str] = []
    counts = np.zeros(len(vectors.names), np.int64)
    bare_rows: list[int] = []
    for row in described.tolist():
        category, other = vectors.categories[row], vectors.categories[donor[row]]
        for description in other.descriptions:
            borrowed = Description(bare_text(other, description), "attribute", description.source)
            texts.extend(grounded_texts(category, borrowed, memory.templates))
        counts[row] = len(other.descriptions)
        bare_rows.extend(range(vectors.offsets[donor[row]], vectors.offsets[donor[row] + 1]))
    per_row = np.full(len(bare_rows), len(memory.templates))
    return replace(
        vectors,
        offsets=np.r_[0, np.cumsum(counts)],
        grounded=unit_mean(encoder.encode_texts(texts), per_row, texts[:: len(memory.templates)]),
        bare=vectors.bare[bare_rows],
        descriptions=[vectors.descriptions[row] for row in bare_rows],
    )
