"""Rows of the results and an MLLM's rankings of them: what is asked, and what becomes of the row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.errors import RecognizerError
from recognizer.images import ImageError, ImageItem, ImageLimits, decode_image
from recognizer.rerank_settings import RerankSettings
from recognizer.results.row import CandidateRow, EvidenceRow, ResultRow, Row
from recognizer.settings import ScoreSettings
from rerank.base import ANSWERED, CONFIDENT, OK, Candidate, Ranking
from rerank.mllm import MOST_OPTIONS, Mllm

if TYPE_CHECKING:
    from PIL.Image import Image

    from rerank.reranker import MllmReranker, Question


class RerankNotConfigured(RecognizerError):
    """Reranking is asked for and there is no MLLM."""


@dataclass(frozen=True, slots=True)
class RankedImage:
    """What reranking needs to know of a row's image.

    Attributes:
        item: where it lies.
        sha256: of its file; None: read when it is asked about.
    """

    item: ImageItem
    sha256: str | None = None


def require_model(settings: RerankSettings, top_k: int) -> None:
    """Refuse, before any work starts, to rerank without an MLLM or with more candidates than two rounds hold.

    Raises:
        RerankNotConfigured: one sentence with an example.
        RecognizerError: `run.top_k` is too large.
        MllmUnavailable: the model's name or address can be none.
    """
    if settings.when == "off":
        return
    if settings.model is None:
        raise RerankNotConfigured(
            f"rerank is {settings.when!r} and no multimodal LLM is named; give --rerank-model, such as "
            "--rerank-model http://127.0.0.1:8000/v1 for a server started by `vllm serve Qwen/Qwen2.5-VL-7B-Instruct`, "
            "or a directory with such a model, or say --rerank off"
        )
    if top_k > MOST_OPTIONS**2:
        raise RecognizerError(f"run.top_k={top_k} is too many to rerank; give at most {MOST_OPTIONS**2}")
    from rerank.backends.opening import check_name

    check_name(settings.model, settings.backend)


def open_reranker(
    settings: RerankSettings, *, warn: Callable[[str], None] | None = None, mllm: Mllm | None = None
) -> MllmReranker:
    """Open the MLLM that the settings name, with its cache of answers.

    Args:
        settings: with a model.
        warn: called with a sentence when the MLLM is given up or the cache fails.
        mllm: one that is open already, in place of the one named.

    Raises:
        MllmUnavailable: it cannot be had; the message says what to do.
    """
    from rerank.backends import BackendOptions, open_mllm
    from rerank.cache import AnswerCache, default_cache_path
    from rerank.reranker import MllmReranker

    names = {option.name for option in fields(BackendOptions)} - {"one_token"}
    options = BackendOptions(one_token=settings.mode == "choice", **settings.model_dump(include=names))
    opened = mllm or open_mllm(settings.model or "", options, backend=settings.backend)
    cache = None
    if settings.cache != "off":
        cache = AnswerCache(Path(settings.cache) if settings.cache else default_cache_path(), warn=warn)
    return MllmReranker(
        opened,
        mode=settings.mode,
        rotations=settings.rotations,
        weight=settings.weight,
        descriptions=settings.descriptions,
        image_size=settings.image_size,
        cache=cache,
        give_up_after=settings.give_up_after,
        warn=warn,
    )


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
        rows: of a batch; error rows stay as they are.
        images: per row, None for an error row.
        reranker: who is asked.
        settings: when to ask.
        score: the threshold of `unknown`.
        limits: of decoding.
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
    """Make of a row the question whether its candidates stand in the right order."""
    from rerank.reranker import Question

    def load() -> Image:
        try:
            size = (settings.image_size, settings.image_size)
            return decode_image(image.item.path, limits=limits, target_size_hw=size).image
        except ImageError as error:
            raise OSError(f"{error.code}: {error.reason}") from error

    return Question(image.sha256 or file_sha256(image.item), load, candidates_of(row))


def file_sha256(item: ImageItem) -> str:
    """Hash a file; one that cannot be read has a name of its own, for its question will fail and be kept nowhere."""
    try:
        with open(item.path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return f"unreadable {item.key}"


def margin(candidates: Sequence[CandidateRow]) -> float:
    """Return how far the best confidence is above the second; 1 where there is no second."""
    return candidates[0].confidence - candidates[1].confidence if len(candidates) > 1 else 1.0


def candidates_of(row: ResultRow) -> list[Candidate]:
    """Return a row's candidates as options, each with its descriptions, those that add most to its score first."""
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
    # A category without descriptions has its name in their place.
    pieces = [
        piece
        for piece in candidate.evidence
        if piece.term in ("description", "region") and piece.description not in ("", candidate.category)
    ]
    return sorted(pieces, key=lambda piece: -piece.contribution)


def apply_ranking(
    row: ResultRow, ranking: Ranking, model: str, *, score: ScoreSettings, fitted: bool = True
) -> ResultRow:
    """Return the row with its candidates in the ranking's order.

    The scores stay retrieval's, as their evidence adds up to them. A confidence stays a probability over all categories
    of the memory: the candidates share what they had together as the ranking says. Whether the answer came from the
    cache does not show: a row says what was found, so resumed runs give the same bytes.

    Args:
        row: retrieval's.
        ranking: of its candidates.
        model: who ranked them.
        score: the threshold of `unknown`.
        fitted: whether the fusion was fitted for this model; if not, the confidences are no calibrated ones, and it
            cannot be said whether the image is unknown.
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
    unknown = None
    if fitted and row.unknown is not None and best is not None and score.unknown_threshold is not None:
        unknown = best.confidence < score.unknown_threshold
    return replace(
        row,
        label=best.category if best else None,
        confidence=best.confidence if best else None,
        calibrated=row.calibrated and fitted,
        unknown=unknown,
        candidates=candidates,
        rerank=record,
    )


def _record(model: str, status: str, order: Sequence[int]) -> dict[str, object]:
    """Say in the row what reranking did; `order` holds retrieval's ranks, counted from 0."""
    return {"status": status, "model": model, "order": list(order)}
