"""From result rows to questions for an MLLM, and from its rankings back to rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memory.durable import file_sha256
from recognizer.boxes.crop import show_box
from recognizer.hierarchy.roll_up import paths_above
from recognizer.hierarchy.rule import label_rule
from recognizer.images import ImageError, ImageItem, ImageLimits
from recognizer.images.workers import WorkerPool
from recognizer.results.row import CandidateRow, EvidenceRow, ResultRow, Row
from recognizer.settings import RENAMED_TERMS, RerankSettings, ScoreSettings
from rerank.base import ANSWERED, CONFIDENT, OK, Candidate, Question, Ranking

if TYPE_CHECKING:
    from PIL.Image import Image

    from rerank.reranker import MllmReranker


@dataclass(frozen=True, slots=True)
class RankedImage:
    """The image of a row, as reranking needs it.

    Attributes:
        item: its file.
        sha256: of the file; None: computed when the MLLM is asked.
    """

    item: ImageItem
    sha256: str | None = None


def rerank_rows(
    rows: Sequence[Row],
    images: Sequence[RankedImage | None],
    reranker: MllmReranker,
    settings: RerankSettings,
    *,
    score: ScoreSettings,
    limits: ImageLimits,
) -> list[Row]:
    """Put the candidates of rows in their final order.

    Args:
        rows: of a batch; error rows do not change.
        images: per row; None for an error row.
        reranker: whose MLLM is asked.
        settings: when to ask.
        score: has the threshold of `unknown`.
        limits: of image decoding.
    """
    ask: dict[int, Question] = {}
    done: list[Row] = list(rows)
    for place, (row, image) in enumerate(zip(rows, images, strict=True)):
        if not isinstance(row, ResultRow) or image is None:
            continue
        if settings.when == "auto" and margin(row.candidates) >= settings.margin:
            reranker.counts.add_skipped(1)
            done[place] = replace(row, rerank=_record(reranker.mllm.name, CONFIDENT, range(len(row.candidates))))
        else:
            ask[place] = question_of(row, image, settings, limits)
    for place, ranking in zip(ask, reranker.rank_many(list(ask.values())), strict=True):
        row = rows[place]
        if isinstance(row, ResultRow):
            done[place] = apply_ranking(row, ranking, reranker.mllm.name, score=score, fitted=settings.fitted)
    return done


def question_of(row: ResultRow, image: RankedImage, settings: RerankSettings, limits: ImageLimits) -> Question:
    """Make the question of a row: its image, or its box with what surrounds it, with its candidates."""
    box = None if row.box is None or row.box.xyxy is None else row.box.to_dict()["xyxy"]

    def load() -> Image:
        try:
            if box is None:
                size = (settings.image_size, settings.image_size)
                return WorkerPool(1).decode(image.item.path, limits=limits, target_size_hw=size).image
            return show_box(WorkerPool(1).decode(image.item.path, limits=limits).image, box, how=settings.box)
        except ImageError as error:
            raise OSError(f"{error.code}: {error.reason}") from error

    content = image.sha256 or _item_sha256(image.item)
    if box is not None:  # another picture, so another answer in the cache
        content = hashlib.sha256(f"{content} {settings.box} {box}".encode()).hexdigest()
    return Question(content, load, candidates_of(row))


def _item_sha256(item: ImageItem) -> str:
    """Return the SHA-256 of a file; for one that cannot be read any unique text does, for its question will fail."""
    try:
        return file_sha256(item.path)
    except OSError:
        return f"unreadable {item.key}"


def margin(candidates: Sequence[CandidateRow]) -> float:
    """Return the best confidence less the second best; 1 if there is only one."""
    return candidates[0].confidence - candidates[1].confidence if len(candidates) > 1 else 1.0


def candidates_of(row: ResultRow) -> list[Candidate]:
    """Return the candidates of a row as options; descriptions that contribute most to the score come first."""
    return [
        Candidate(
            candidate.category,
            tuple(dict.fromkeys(piece.description for piece in _described(candidate))),
            candidate.group,
            candidate.confidence,
        )
        for candidate in row.candidates
    ]


def _described(candidate: CandidateRow) -> list[EvidenceRow]:
    # The evidence of a category without descriptions has its name in place of a description.
    pieces = [
        piece
        for piece in candidate.evidence
        if RENAMED_TERMS.get(piece.term, piece.term) in ("image_description", "region_description")
        and piece.description not in ("", candidate.category)
    ]
    return sorted(pieces, key=lambda piece: -piece.contribution)


def apply_ranking(
    row: ResultRow, ranking: Ranking, model: str, *, score: ScoreSettings, fitted: bool = True
) -> ResultRow:
    """Return the row with its candidates in the ranking's order.

    Scores do not change, for the evidence adds up to retrieval's. A confidence stays a probability over all categories
    of the memory: the ranking only divides the sum of the candidates' confidences anew. The row does not tell whether
    the answer came from the cache, so that resumed runs give the same bytes.

    Args:
        row: from retrieval.
        ranking: of its candidates.
        model: name of the MLLM.
        score: has the threshold of `unknown`, and what a label needs.
        fitted: whether the weight of the fusion was fitted for this model; if not, the confidences are not calibrated
            and `unknown` is None, unless negative labels decide, which do not depend on the order.
    """
    status = OK if ranking.status in ANSWERED else ranking.status
    if status != OK:
        return replace(row, rerank=_record(model, status, ranking.order))
    total = sum(candidate.confidence for candidate in row.candidates)
    candidates = [
        replace(row.candidates[place], confidence=total * ranking.probabilities[place]) for place in ranking.order
    ]
    record = _record(model, status, ranking.order)
    if ranking.answer is not None:
        record["probabilities"] = [float(f"{ranking.answer[place]:.6g}") for place in ranking.order]
    if ranking.reasons:
        record["reasons"] = list(ranking.reasons)
    best = candidates[0] if candidates else None
    unknown = row.unknown if row.known is not None else None
    if (
        row.known is None
        and fitted
        and row.unknown is not None
        and best is not None
        and score.unknown_threshold is not None
    ):
        unknown = best.confidence < score.unknown_threshold
    groups = dict(row.group_confidence or {})
    for candidate in row.candidates:
        for path in paths_above(candidate.category, candidate.group, groups):
            groups[path] -= candidate.confidence
    for candidate in candidates:
        for path in paths_above(candidate.category, candidate.group, groups):
            groups[path] = max(0.0, groups[path]) + candidate.confidence
    return replace(
        row,
        calibrated=row.calibrated and fitted,
        unknown=unknown,
        candidates=candidates,
        group_confidence=row.group_confidence and dict(sorted(groups.items(), key=lambda each: -each[1])),
        rerank=record,
    ).with_label(label_rule(score))


def _record(model: str, status: str, order: Sequence[int]) -> dict[str, object]:
    """Return the `rerank` field of a row; `order` holds retrieval's ranks, counted from 0."""
    return {"status": status, "model": model, "order": list(order)}
