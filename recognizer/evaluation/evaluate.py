"""Accuracy on a labelled set, with each part of the score switched on in turn.

The rows share one pass over the images. The control row pairs every category with another one's descriptions: a gain
that survives shuffling is no gain of the descriptions.
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
from recognizer.evaluation.labelled import Matched
from recognizer.evaluation.metrics import Accuracy, confusions, measure, truth_ranks
from recognizer.evaluation.reranked import RerankEvaluation, evaluate_reranking
from recognizer.pipeline import encode_files, in_batches
from recognizer.recognizer import Recognizer, reference_features
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch
from recognizer.results import BatchTiming
from recognizer.score import Scorer

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker

NAMES = "names"
CONTROL = "+ shuffled descriptions (control)"


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """How one category fared under the last row of the table."""

    category: str
    images: int
    top1: float
    top5: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        rows: accuracy per way of scoring, in the order they are switched on.
        images: how many images were ranked.
        failed: how many could not be decoded, by error code.
        unmatched: labels that are no category, with the number of their images.
        per_class: recall of each category, in the memory's order: after reranking where there was one, else under the
            last row.
        confusions: the most frequent (truth, prediction, count), likewise.
        rerank: what an MLLM added to the order of `run`; None where none was asked.
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
    labelled: Matched,
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
    scorers = make_scorers(recognizer, seed=seed)
    ranks: dict[str, list[NDArray[np.int64]]] = {name: [] for name in scorers}
    retrieved: list[RowBatch] = []
    retrieved_ranks: list[NDArray[np.int64]] = []
    predicted: list[int] = []
    truth: list[int] = []
    failed: dict[str, int] = {}
    done = 0
    run = recognizer.settings.run
    for batch in encode_files(
        recognizer.encoder,
        in_batches(labelled.items, run.batch_size),
        workers=run.workers,
        limits=recognizer.settings.images,
    ):
        for error in filter(None, batch.errors):
            failed[error.code] = failed.get(error.code, 0) + 1
        if batch.features is not None:
            rows = np.array([labelled.rows[done + position] for position in batch.positions])
            truth.extend(rows.tolist())
            for name, scorer in scorers.items():
                # An exemplar that is the image itself would answer for it.
                scores = scorer.score(batch.features, exclude=batch.hashes)
                ranks[name].append(truth_ranks(scores, rows))
            predicted.extend(scores.argmax(1).tolist())
            if reranker is not None:
                items = [batch.items[position] for position in batch.positions]
                found = recognizer.rows(batch.features, [item.key for item in items], exclude=batch.hashes)
                images = [RankedImage(item, digest) for item, digest in zip(items, batch.hashes, strict=True)]
                retrieved.append(RowBatch(done, list(found), images, BatchTiming(decode_s=0, encode_s=0, score_s=0)))
                scores = recognizer.scorer.score(batch.features, exclude=batch.hashes)
                retrieved_ranks.append(truth_ranks(scores, rows))
        done += len(batch.items)
        if progress:
            progress(len(batch.items))
    if not truth:
        raise ValueError(f"none of the {done} images could be decoded: {failed}")
    ranked = {name: np.concatenate(parts) for name, parts in ranks.items()}
    categories = recognizer.memory.vectors.categories
    names = [category.name for category in categories]
    measured = {name: measure(values, np.array(truth), seed=seed) for name, values in ranked.items()}
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
        measured |= reranked.rows
    return Evaluation(
        rows=measured,
        images=len(truth),
        failed=failed,
        unmatched=labelled.unmatched,
        per_class=_per_class(names, np.array(truth), reranked.ranks if reranked else ranked[name]),
        confusions=confusions(
            [names[row] for row in truth], reranked.predicted if reranked else [names[row] for row in predicted]
        ),
        rerank=reranked,
    )


def _per_class(names: Sequence[str], truth: NDArray[np.int64], ranks: NDArray[np.int64]) -> list[ClassRecall]:
    return [
        ClassRecall(
            category=names[row],
            images=int((truth == row).sum()),
            top1=float((ranks[truth == row] <= 1).mean()),
            top5=float((ranks[truth == row] <= 5).mean()),
        )
        for row in np.unique(truth)
    ]


def make_scorers(recognizer: Recognizer, *, seed: int = 0) -> dict[str, Scorer]:
    """Return the scorer of each row of the table, by the row's name.

    Terms keep the proportions of the settings. Rows on descriptions are there if any category has some, the one on
    exemplars likewise.
    """
    score, vectors = recognizer.settings.score, recognizer.memory.vectors
    reference = reference_features(recognizer.encoder) if score.center else None

    def scorer(*terms: str, over: MemoryVectors = vectors) -> Scorer:
        return Scorer(over, score.only(*terms), reference=reference)

    scorers = {NAMES: scorer("name")}
    described = len(vectors.bare) > 0
    if described:
        shuffled = shuffle_descriptions(recognizer.memory, recognizer.encoder, seed=seed)
        scorers["+ descriptions"] = scorer("name", "description")
        scorers[CONTROL] = scorer("name", "description", over=shuffled)
        scorers["+ regions"] = scorer("name", "description", "region", "region_name")
    else:
        scorers["+ regions"] = scorer("name", "region_name")
    if len(vectors.exemplars):
        scorers["+ exemplars"] = Scorer(vectors, score, reference=reference)
    return scorers


def shuffle_descriptions(memory: Memory, encoder: Encoder, *, seed: int) -> MemoryVectors:
    """Give every described category the descriptions of another one, grounded in its own name.

    Args:
        memory: where they are from; is not changed.
        encoder: the memory's; encodes the new grounded texts.
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
        category, giver = vectors.categories[row], vectors.categories[donor[row]]
        for description in giver.descriptions:
            stranger = Description(bare_text(giver, description), "attribute", description.source)
            texts.extend(grounded_texts(category, stranger, memory.templates))
        counts[row] = len(giver.descriptions)
        bare_rows.extend(range(vectors.offsets[donor[row]], vectors.offsets[donor[row] + 1]))
    per_row = np.full(len(bare_rows), len(memory.templates))
    return replace(
        vectors,
        offsets=np.r_[0, np.cumsum(counts)],
        grounded=unit_mean(encoder.encode_texts(texts), per_row, texts[:: len(memory.templates)]),
        bare=vectors.bare[bare_rows],
        descriptions=[vectors.descriptions[row] for row in bare_rows],
    )
