"""Fitting the reranker: an MLLM is asked about every image of both halves, under the score that was just fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.calibration.calibrate import Calibration, Half
from recognizer.calibration.rerank import MarginFit, RerankFit, RerankOutcome, fit_margin, fit_weight
from recognizer.calibration.terms import Doubles, Rows
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem
from recognizer.pipeline import encode_files, in_batches
from recognizer.recognizer import Recognizer
from recognizer.rerank_evaluation import place_of
from recognizer.reranking import RankedImage, candidates_of, margin, question_of
from recognizer.results import ResultRow
from rerank.choice import fuse
from rerank.reranker import MllmReranker


@dataclass(frozen=True, slots=True, eq=False)
class AskedImages:
    """What retrieval and an MLLM say about N images that it answered for.

    Attributes:
        log_answers: (N, k) the MLLM's log-probabilities, in retrieval's order.
        confidences: (N, k) retrieval's probabilities.
        truth: (N,) place of the truth among the k, -1 where it is not there.
        margins: (N,) confidence of the best less that of the second.
    """

    log_answers: Doubles
    confidences: Doubles
    truth: Rows
    margins: Doubles

    def right(self, weight: float) -> NDArray[np.bool_]:
        """Tell where the best candidate is the truth, once the answers are fused in with that weight; (N,)."""
        pairs = zip(self.log_answers, self.confidences, strict=True)
        best = [int(fuse(answer, confidence.tolist(), weight).argmax()) for answer, confidence in pairs]
        found: NDArray[np.bool_] = np.array(best) == self.truth
        return found


def fit_reranking(
    recognizer: Recognizer,
    calibration: Calibration,
    reranker: MllmReranker,
    *,
    progress: Callable[[int], None] | None = None,
) -> RerankFit:
    """Fit weight and margin on one half of the images, and see on the other what they are worth.

    Args:
        recognizer: of the same memory, with the fitted score.
        calibration: its halves.
        reranker: in mode `choice`; its own weight takes no part.
        progress: called with the number of images done since the last call.

    Raises:
        RecognizerError: the MLLM answered for too few images.
    """
    fit = ask(recognizer, calibration.fit, reranker, progress)
    report = ask(recognizer, calibration.report, reranker, progress)
    weight = fit_weight(fit.log_answers, fit.confidences, fit.truth)
    chosen = fit_margin(fit.margins, fit.right(0.0), fit.right(weight))
    return RerankFit(weight, chosen, outcome(report, weight, chosen), recognizer.settings.rerank.model_name)


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
    recognizer: Recognizer, half: Half, reranker: MllmReranker, progress: Callable[[int], None] | None = None
) -> AskedImages:
    """Retrieve the top k of every image and ask the MLLM about each.

    Raises:
        RecognizerError: it answered for none of them.
    """
    categories = recognizer.memory.vectors.categories
    settings = recognizer.settings
    kept: list[tuple[tuple[float, ...], ResultRow, int]] = []
    statuses: set[str] = set()
    done = 0
    for batch in encode_files(
        recognizer.encoder,
        in_batches(half.items, settings.run.batch_size),
        workers=settings.run.workers,
        limits=settings.images,
    ):
        if batch.features is not None:
            items: Sequence[ImageItem] = [batch.items[position] for position in batch.positions]
            rows = recognizer.rows(batch.features, [item.key for item in items], exclude=batch.hashes)
            questions = [
                question_of(row, RankedImage(item, digest), settings.rerank, settings.images)
                for row, item, digest in zip(rows, items, batch.hashes, strict=True)
            ]
            for position, row, ranking in zip(batch.positions, rows, reranker.rank_many(questions), strict=True):
                statuses.add(ranking.status)
                if ranking.answer is not None:
                    truth = int(half.rows[done + position])
                    kept.append((ranking.answer, row, place_of(row, categories[truth]) if truth >= 0 else -1))
        done += len(batch.items)
        if progress:
            progress(len(batch.items))
    if not kept:
        raise RecognizerError(
            f"the MLLM answered for none of {len(half.items)} images ({', '.join(sorted(statuses))}), so that its "
            "weight cannot be fitted; calibrate needs rerank.mode=choice and an MLLM that answers"
        )
    return AskedImages(
        log_answers=np.log(np.maximum([answer for answer, _, _ in kept], np.finfo(np.float64).tiny)),
        confidences=np.array([[candidate.confidence for candidate in candidates_of(row)] for _, row, _ in kept]),
        truth=np.array([place for _, _, place in kept], np.int64),
        margins=np.array([margin(row.candidates) for _, row, _ in kept]),
    )
