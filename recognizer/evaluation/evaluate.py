"""Accuracy on a labelled set, with each part of the score switched on in turn.

All rows of the table come from one pass over the images. One control row gives every category the descriptions of
another one, the other random words in place of its own: a gain that survives either does not come from what the
descriptions say (much of it is that several texts are averaged, Roth et al., arXiv 2306.07282). Further files of
descriptions get rows of their own, as if the memory had been built with each of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory import Category, Description, Memory
from memory.halves import rounded
from memory.templates import bare_text, grounded_texts
from memory.vectors import MemoryVectors, unit_mean
from recognizer.describing.joining import join_descriptions
from recognizer.encoder import Encoder
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.labelled import LabelledSet
from recognizer.evaluation.metrics import Accuracy, confusions, measure, truth_ranks
from recognizer.evaluation.reranked import RerankEvaluation, evaluate_reranking
from recognizer.hierarchy.climbs import Climbs, RollUpEvaluation, climb_scores, evaluate_roll_up
from recognizer.hierarchy.rule import roll_up_thresholds
from recognizer.hierarchy.tree import Tree
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
RANDOM = "+ random words (control)"
WITH_PRIOR = "+ prior"
CONTROLS = (CONTROL, RANDOM)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of scoring.

    Attributes:
        weights: of the score.
        vectors: with other descriptions than the memory's; None for the memory's own.
        prior: whether the recognizer's prior counts.
    """

    weights: ScoreSettings
    vectors: MemoryVectors | None = None
    prior: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """How a way of scoring changes the top-1 recall of the categories that have images, against names alone.

    Attributes:
        helped: share of categories whose recall is higher.
        hurt: share of categories whose recall is lower.
    """

    helped: float
    hurt: float


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
        changes: per row but the first, how many categories it helps and hurts.
        rerank: how an MLLM changed the order of `run`; None where none was asked.
        roll_up: of the settings' score; None in a memory without groups.
    """

    rows: Mapping[str, Accuracy]
    images: int
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]
    per_class: Sequence[ClassRecall]
    confusions: Sequence[tuple[str, str, int]]
    changes: Mapping[str, Change]
    rerank: RerankEvaluation | None = None
    roll_up: RollUpEvaluation | None = None


def evaluate(
    recognizer: Recognizer,
    labelled: LabelledSet,
    *,
    sources: Mapping[str, Sequence[Category]] | None = None,
    reranker: MllmReranker | None = None,
    progress: Callable[[int], None] | None = None,
    rerank_progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Rank the true category of every image under each way of scoring.

    Args:
        recognizer: encoder, memory and settings.
        labelled: images with the rows of their categories.
        sources: further descriptions by the name of their source, joined to the memory's categories by name and group.
        reranker: an MLLM that orders the candidates that `run` would find.
        progress: called with the number of images done since the last call.
        rerank_progress: the same for reranking, which comes after.
        seed: of the shuffling and of the bootstrap.

    Raises:
        ValueError: not one image could be decoded.
    """
    ways = ways_of_scoring(recognizer, seed=seed)
    last = list(ways)[-1]
    for source, described in (sources or {}).items():
        ways |= _ways_of_source(recognizer, source, described, seed=seed)
    others = {name: Scorer(way.vectors, way.weights) for name, way in ways.items() if way.vectors is not None}
    ranks: dict[str, list[Ranks]] = {name: [] for name in ways}
    truth: list[int] = []
    predicted: list[int] = []
    retrieved: list[RowBatch] = []
    retrieved_ranks: list[Ranks] = []
    score, temperature = recognizer.settings.score, recognizer.retriever.temperature
    tree, climbs = Tree(recognizer.memory.vectors.categories), list[Climbs]()
    failures = Failures()
    prior = recognizer.scorer.prior
    summands = np.float32(0) if prior is None else prior.summands
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
        terms = recognizer.scorer.terms(batch.features)
        exemplar = recognizer.scorer.exemplar_term(batch.features.image, batch.hashes)
        for name, way in ways.items():
            if name in others:
                scores = others[name].score(batch.features, exclude=batch.hashes)
            else:
                scores = weigh(terms, way.weights) + (summands if way.prior else 0)
                if way.weights.head != "off":
                    scores += exemplar
            ranks[name].append(truth_ranks(scores, batch.rows))
            if name == last:
                predicted.extend(scores.argmax(1).tolist())
        whole = weigh(terms, score) + exemplar + summands  # what `run` ranks by
        if len(tree):
            climbs.append(climb_scores(whole, temperature, tree, batch.rows))
        if reranker is not None:
            rows = recognizer.rows(batch.features, batch.items, exclude=batch.hashes)
            images = [RankedImage(item, digest) for item, digest in zip(batch.items, batch.hashes, strict=True)]
            timing = BatchTiming(decode_s=0, encode_s=0, score_s=0)
            retrieved.append(RowBatch(list(rows), images, timing))
            retrieved_ranks.append(truth_ranks(whole, batch.rows))
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
        changes={name: change(all_ranks[NAMES], all_ranks[name], true_rows) for name in ways if name != NAMES},
        rerank=reranked,
        roll_up=evaluate_roll_up(climbs, roll_up_thresholds(score), seed=seed) if climbs else None,
    )


def ways_of_scoring(recognizer: Recognizer, *, seed: int = 0) -> dict[str, Way]:
    """Return the ways of scoring of the table, by the row's name.

    Terms keep the proportions of the settings. Rows with descriptions are present if any category has some, the rows
    with exemplars and with a prior likewise.
    """
    score, vectors = recognizer.settings.score, recognizer.memory.vectors
    ways = {NAMES: Way(score.only("image_name"))}
    if len(vectors.bare):
        described = score.only("image_name", "image_description")
        ways["+ descriptions"] = Way(described)
        own = [category.descriptions for category in vectors.categories]
        ways |= {name: Way(described, other) for name, other in _controls(recognizer, own, seed).items()}
        ways["+ regions"] = Way(score.only("image_name", "image_description", "region_description", "region_name"))
    else:
        ways["+ regions"] = Way(score.only("image_name", "region_name"))
    if recognizer.scorer.head is not None:
        ways["+ exemplars"] = Way(score)
    if recognizer.scorer.prior is not None:
        ways[WITH_PRIOR] = Way(ways[list(ways)[-1]].weights, prior=True)
    return ways


def _ways_of_source(recognizer: Recognizer, source: str, described: Sequence[Category], *, seed: int) -> dict[str, Way]:
    """Return the rows of other descriptions: by the whole image, both controls, and with regions."""
    score, memory = recognizer.settings.score, recognizer.memory
    categories, _ = join_descriptions(memory.vectors.categories, described, own=False)
    own = [category.descriptions for category in categories]
    if not any(own):
        return {}
    vectors = describe_anew(memory, recognizer.encoder, own)
    whole = score.only("image_name", "image_description")
    regions = score.only("image_name", "image_description", "region_description", "region_name")
    ways = {"+ descriptions": Way(whole, vectors)}
    ways |= {name: Way(whole, other) for name, other in _controls(recognizer, own, seed).items()}
    ways["+ regions"] = Way(regions, vectors)
    return {f"{source}: {name}": way for name, way in ways.items()}


def _controls(
    recognizer: Recognizer, described: Sequence[Sequence[Description]], seed: int
) -> dict[str, MemoryVectors]:
    """Return vectors of the memory with the descriptions of each control, which are made of `described`."""
    categories = recognizer.memory.vectors.categories
    bare = [
        [Description(bare_text(category, each)) for each in own]
        for category, own in zip(categories, described, strict=True)
    ]
    return {
        CONTROL: describe_anew(recognizer.memory, recognizer.encoder, shuffled(bare, seed=seed)),
        RANDOM: describe_anew(recognizer.memory, recognizer.encoder, random_words(bare, seed=seed)),
    }


def change(before: Ranks, after: Ranks, truth: Ranks) -> Change:
    """Compare the top-1 recall of each category under two ways of scoring.

    Args:
        before: (N,) 1-based ranks of the truth.
        after: (N,) the same, under the other way.
        truth: (N,) true category of each image.
    """
    categories = np.unique(truth, return_inverse=True)[1]
    gains = np.bincount(categories, (after <= 1).astype(float) - (before <= 1))
    return Change(float((gains > 0).mean()), float((gains < 0).mean()))


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


def shuffled(described: Sequence[Sequence[Description]], *, seed: int) -> list[Sequence[Description]]:
    """Give every described category the descriptions of another one."""
    rows = [row for row, own in enumerate(described) if own]
    order = np.random.default_rng(seed).permutation(rows)
    donors = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [described[donors[row]] if own else () for row, own in enumerate(described)]


def random_words(described: Sequence[Sequence[Description]], *, seed: int) -> list[Sequence[Description]]:
    """Replace every word by one drawn from all descriptions; how many descriptions and words there are stays.

    Words of the same file, so that they are as rare, and as visual, as those of the descriptions.
    """
    words = [word for own in described for each in own for word in each.text.split()]
    rng = np.random.default_rng(seed)
    return [
        [Description(" ".join(words[k] for k in rng.integers(len(words), size=len(each.text.split())))) for each in own]
        for own in described
    ]


def describe_anew(memory: Memory, encoder: Encoder, described: Sequence[Sequence[Description]]) -> MemoryVectors:
    """Return the memory's vectors with other descriptions.

    Args:
        memory: is not changed; its vectors of equal bare texts are used.
        encoder: of the memory; encodes the texts, alone and grounded in the names.
        described: (C) the descriptions of each category.
    """
    vectors = memory.vectors
    pairs = [(category, each) for category, own in zip(vectors.categories, described, strict=True) for each in own]
    bare = [bare_text(category, each) for category, each in pairs]
    known = [bare_text(category, each) for category in vectors.categories for each in category.descriptions]
    rows = {text: row for row, text in enumerate(known)}
    new = [text for text in dict.fromkeys(bare) if text not in rows]
    rows |= {text: len(known) + row for row, text in enumerate(new)}
    # Rounded as a memory stores them, so that the same texts are the same vectors.
    every = np.concatenate([vectors.bare[:], rounded(encoder.encode_texts(new))]) if new else vectors.bare
    grounded = [text for category, each in pairs for text in grounded_texts(category, each, memory.templates)]
    per_row = np.array([1 if each.kind == "sentence" else len(memory.templates) for _, each in pairs])
    firsts = np.cumsum(per_row) - per_row
    return replace(
        vectors,
        offsets=np.cumsum([0, *map(len, described)]),
        grounded=rounded(unit_mean(encoder.encode_texts(grounded), per_row, [grounded[first] for first in firsts])),
        bare=every[[rows[text] for text in bare]],
        descriptions=[each.text for _, each in pairs],
    )
