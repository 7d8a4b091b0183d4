"""Fit when to ask the reranker (the margin) and how much its answer counts (the weight), on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq  # type: ignore[import-untyped]

from recognizer.calibration.fit import halfway
from recognizer.calibration.sample import Split
from recognizer.calibration.terms import UNKNOWN, Doubles, Rows
from recognizer.errors import RecognizerError
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.reranked import place_of
from recognizer.recognizer import Recognizer
from recognizer.reranking.questions import RankedImage, margin, question_of
from recognizer.results import ResultRow
from rerank.choice import fuse
from rerank.reranker import MllmReranker

LARGEST_WEIGHT = 10.0
"""The weight is bounded, because that of an MLLM that is never wrong would grow without end."""


@dataclass(frozen=True, slots=True)
class MarginFit:
    """Which images are worth asking about.

    Attributes:
        margin: ask where the confidence of the best less that of the second is below it.
        asked_share: share of the images that are asked then.
        gain_share: share of the gain of asking about all images that is kept; may exceed 1. 0 where there is no gain.
    """

    margin: float
    asked_share: float
    gain_share: float


@dataclass(frozen=True, slots=True)
class RerankOutcome:
    """What a fitted weight and margin are worth on images they were not fitted on.

    Attributes:
        images: how many the MLLM answered for.
        top1_before: accuracy without asking.
        top1_always: accuracy when every image is asked about.
        top1_auto: accuracy when those below the margin are.
        asked_share: share of the images below the margin.
        gain_share: share of the gain of asking always that is kept; 0 where there is none.
    """

    images: int
    top1_before: float
    top1_always: float
    top1_auto: float
    asked_share: float
    gain_share: float


@dataclass(frozen=True, slots=True)
class RerankFit:
    """The fitted settings of reranking.

    Attributes:
        weight: of the MLLM's answer.
        margin: when to ask for it.
        outcome: what both are worth on the other half; None where that was not measured.
        model: that was asked, as the settings name it.
    """

    weight: float
    margin: MarginFit
    outcome: RerankOutcome | None = None
    model: str | None = None


def fit_weight(log_answers: Doubles, confidences: Doubles, truth_position: Rows) -> float:
    """Find the weight lambda of the MLLM's answer in softmax(lambda * log_answer + log confidence).

    The mean negative log-likelihood of the truth is convex in lambda, so its slope has one root at most.

    Args:
        log_answers: (N, k) the MLLM's log-probabilities.
        confidences: (N, k) retrieval's probabilities.
        truth_position: (N,) where the truth is among the k, or -1; those images are left out.

    Returns:
        0 where the answers add nothing to retrieval, at most `LARGEST_WEIGHT`.

    Raises:
        RecognizerError: no image has its truth among the k.
    """
    present = truth_position >= 0
    if not present.any():
        raise RecognizerError(
            f"none of the {len(present)} images has its true category among the candidates, so that the weight of the "
            "reranker cannot be fitted. Raise run.top_k or label more images."
        )
    tiny = np.finfo(np.float64).tiny
    answers = np.maximum(log_answers[present], np.log(tiny))
    prior = np.log(np.maximum(confidences[present], tiny))
    of_truth = answers[np.arange(len(answers)), truth_position[present]]

    def slope(weight: float) -> float:
        logits = weight * answers + prior
        shares = np.exp(logits - logits.max(1, keepdims=True))
        expected = (shares * answers).sum(1) / shares.sum(1)
        return float((expected - of_truth).mean())

    if slope(0.0) >= 0:
        return 0.0
    if slope(LARGEST_WEIGHT) <= 0:
        return LARGEST_WEIGHT
    return float(brentq(slope, 0.0, LARGEST_WEIGHT, xtol=1e-9))


def fit_margin(
    margins: Doubles, right_before: NDArray[np.bool_], right_after: NDArray[np.bool_], share: float = 0.95
) -> MarginFit:
    """Find the smallest margin below which asking keeps most of the gain of asking always.

    Args:
        margins: (N,) in [0, 1], confidence of the best candidate less that of the second.
        right_before: (N,) whether retrieval's best is the truth.
        right_after: (N,) whether the best after asking is.
        share: of the gain to keep, in (0, 1].

    Returns:
        A margin halfway between the two neighbouring ones that it parts; 1 where all must be asked, 0 where asking all
        gains nothing.
    """
    change = right_after.astype(np.int64) - right_before.astype(np.int64)
    total = int(change.sum())
    if total <= 0:
        return MarginFit(0.0, 0.0, 0.0)
    values, place = np.unique(margins, return_inverse=True)
    gain = np.cumsum(np.bincount(place, weights=change))
    last = int((gain >= share * total - 1e-9).argmax())
    # The largest margin there can be is 1; an image that has it is never asked about.
    margin = halfway(float(values[last]), float(values[last + 1])) if last + 1 < len(values) else 1.0
    asked = margins < margin
    return MarginFit(margin, float(asked.mean()), float(change[asked].sum() / total))


@dataclass(frozen=True, slots=True, eq=False)
class AskedImages:
    """What retrieval and an MLLM say about N images that it answered for.

    Attributes:
        log_answers: (N, k) the MLLM's log-probabilities, in retrieval's order.
        confidences: (N, k) retrieval's probabilities.
        truth: (N,) place of the truth among the k, -1 where it is not among them.
        margins: (N,) confidence of the best less that of the second.
    """

    log_answers: Doubles
    confidences: Doubles
    truth: Rows
    margins: Doubles

    def right(self, weight: float) -> NDArray[np.bool_]:
        """Return (N,) whether the best candidate is the truth, once the answers are fused with that weight."""
        pairs = zip(self.log_answers, self.confidences, strict=True)
        best = [int(fuse(answer, confidence.tolist(), weight).argmax()) for answer, confidence in pairs]
        right: NDArray[np.bool_] = np.array(best) == self.truth
        return right


def fit_reranking(
    recognizer: Recognizer,
    fit: Split,
    report: Split,
    reranker: MllmReranker,
    *,
    progress: Callable[[int], None] | None = None,
) -> RerankFit:
    """Fit weight and margin on one half of the images, and measure on the other what they are worth.

    Args:
        recognizer: of the same memory, with the fitted score.
        fit: images to fit on.
        report: images to report on.
        reranker: in mode `choice`; its own weight takes no part.
        progress: called with the number of images done since the last call.

    Raises:
        RecognizerError: the MLLM answered for too few images.
    """
    fitted = ask(recognizer, fit, reranker, progress)
    reported = ask(recognizer, report, reranker, progress)
    weight = fit_weight(fitted.log_answers, fitted.confidences, fitted.truth)
    chosen = fit_margin(fitted.margins, fitted.right(0.0), fitted.right(weight))
    return RerankFit(weight, chosen, outcome(reported, weight, chosen), recognizer.settings.rerank.model_name)


def outcome(answers: AskedImages, weight: float, chosen: MarginFit) -> RerankOutcome:
    """Return top-1 accuracy without asking, asking always, and asking below the margin."""
    before, always = answers.right(0.0), answers.right(weight)
    asked = answers.margins < chosen.margin
    auto = np.where(asked, always, before)
    gain = int(always.sum()) - int(before.sum())
    return RerankOutcome(
        images=len(before),
        top1_before=float(before.mean()),
        top1_always=float(always.mean()),
        top1_auto=float(auto.mean()),
        asked_share=float(asked.mean()),
        gain_share=(int(auto.sum()) - int(before.sum())) / gain if gain else 0.0,
    )


def ask(
    recognizer: Recognizer, split: Split, reranker: MllmReranker, progress: Callable[[int], None] | None = None
) -> AskedImages:
    """Retrieve the top k of every image and ask the MLLM about each.

    Raises:
        RecognizerError: it answered for none of them.
    """
    categories, settings = recognizer.memory.vectors.categories, recognizer.settings
    answers: list[Sequence[float]] = []
    answered: list[ResultRow] = []
    places: list[int] = []
    statuses: set[str] = set()
    for batch in encode_labelled(
        recognizer.encoder,
        split.items,
        split.rows,
        Failures(),
        settings=settings,
        features=recognizer.features,
        progress=progress,
    ):
        rows = recognizer.rows(batch.features, batch.items, exclude=batch.hashes)
        questions = [
            question_of(row, RankedImage(item, digest), settings.rerank, settings.images)
            for row, item, digest in zip(rows, batch.items, batch.hashes, strict=True)
        ]
        for row, truth, ranking in zip(rows, batch.rows.tolist(), reranker.rank_many(questions), strict=True):
            statuses.add(ranking.status)
            if ranking.answer is not None:
                answers.append(ranking.answer)
                answered.append(row)
                places.append(-1 if truth == UNKNOWN else place_of(row, categories[truth]))
    if not answers:
        raise RecognizerError(
            f"the MLLM answered for none of {len(split.items)} images ({', '.join(sorted(statuses))}), so that its "
            "weight cannot be fitted; calibrate needs rerank.mode=choice and an MLLM that answers"
        )
    return AskedImages(
        log_answers=np.log(np.maximum(answers, np.finfo(np.float64).tiny)),
        confidences=np.array([[candidate.confidence for candidate in row.candidates] for row in answered]),
        truth=np.array(places, np.int64),
        margins=np.array([margin(row.candidates) for row in answered]),
    )
