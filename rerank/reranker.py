"""Rank candidates with an MLLM or a reranker: look into the cache, ask about the others, turn answers into rankings.

Whatever fails, the candidates stay in retrieval's order and the status says why. After some failed images in a row the
MLLM is not asked any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rerank.ask import ask_by_choice, ask_by_list, ask_by_score
from rerank.base import (
    ALONE,
    CACHED,
    GAVE_UP,
    OK,
    Answer,
    Candidate,
    Question,
    Ranking,
    check_distinct,
    unchanged_ranking,
)
from rerank.cache import AnswerCache, answer_key
from rerank.careful import Patience, ask_apart, scaled_image
from rerank.choice import Rotations, fuse, rotation_starts
from rerank.counts import RerankCounts
from rerank.mllm import MOST_OPTIONS, Failure, Mllm, Scorer
from rerank.prompt import PROMPT_VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = ("choice", "list")
# How a reranker is asked; it knows no other way.
SCORE = "score"


class MllmReranker:
    """Orders candidates by asking a frozen MLLM, or a reranker. Safe to use from several threads.

    Args:
        mllm: the model to ask; a `Scorer` scores every candidate, and mode and rotations are not used.
        mode: `choice`: one option symbol under constrained decoding; `list`: a sorted list, written freely.
        rotations: of the options, per image; None: as many as options; auto: as many as settle the first place. A list
            is asked for once.
        weight: lambda of the fusion, softmax(lambda log p_mllm + log p_retrieval).
        descriptions: shown per option, at most.
        image_size: longest side in pixels of the image that the MLLM sees; larger images are scaled down.
        cache: of answers; None: every question is asked.
        give_up_after: failed images in a row after which the MLLM is not asked any more.
        warn: called with one sentence when that happens, and with the first failure of each kind: what the model's
            server said is foreign text, not escaped.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        mllm: Mllm | Scorer,
        *,
        mode: str = "choice",
        rotations: Rotations = None,
        weight: float = 1.0,
        descriptions: int = 3,
        image_size: int = 768,
        cache: AnswerCache | None = None,
        give_up_after: int = 5,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Store the settings; nothing is asked yet."""
        if mode not in MODES:
            raise ValueError(f"mode {mode!r} is unknown; choose one of {', '.join(MODES)}")
        self.mllm = mllm
        self.counts = RerankCounts()
        self._mode = SCORE if isinstance(mllm, Scorer) else mode
        self._rotations, self._weight, self._descriptions = rotations, weight, descriptions
        self._image_size, self._cache = image_size, cache
        self._patience = Patience(
            mllm.name,
            item="image",
            then="retrieval's order is kept for the others",
            give_up_after=give_up_after,
            warn=warn,
        )
        self._closed = False

    def rank(self, image: Image, candidates: Sequence[Candidate]) -> Ranking:
        """Order the candidates of one image.

        Raises:
            ValueError: two candidates are the same, or they are too many for one question.
        """
        rgb = image.convert("RGB")  # as the MLLM sees it: the bytes of a palette image do not tell its colours
        digest = hashlib.sha256(f"{rgb.size} ".encode() + rgb.tobytes()).hexdigest()
        return self.rank_many([Question(digest, lambda: rgb, candidates)])[0]

    def rank_many(self, questions: Sequence[Question]) -> list[Ranking]:
        """Order the candidates of many images; each has its own answer or its own failure.

        Returns:
            One ranking per question, in order.

        Raises:
            ValueError: two candidates of a question are the same, or they are too many for one question.
        """
        for question in questions:
            check_distinct(question.candidates)
            if self._mode == "choice" and len(question.candidates) > MOST_OPTIONS:
                raise ValueError(
                    f"{len(question.candidates)} candidates are more than the {MOST_OPTIONS} options of one question; "
                    "give fewer, or use mode 'list'"
                )
        keys = [self._key(question) for question in questions]
        known = self._cache.get_many(keys) if self._cache is not None else {}
        rankings: dict[int, Ranking] = {}
        waiting: dict[str, list[int]] = {}  # copies of an image share one answer
        for number, (question, key) in enumerate(zip(questions, keys, strict=True)):
            if len(question.candidates) < 2:
                rankings[number] = unchanged_ranking(question.candidates, ALONE)
                self.counts.add_skipped(1)
            elif key in known:
                rankings[number] = self._ranking(question, known[key], CACHED)
                self.counts.add_cached()
            else:
                if key in waiting:
                    self.counts.add_cached()
                waiting.setdefault(key, []).append(number)
        for chunk in self._chunks([(questions[numbers[0]], key) for key, numbers in waiting.items()]):
            for (_, key), answer in zip(chunk, self._ask(chunk), strict=True):
                for number in waiting[key]:
                    question = questions[number]
                    rankings[number] = (
                        unchanged_ranking(question.candidates, answer.status)
                        if isinstance(answer, Failure)
                        else self._ranking(question, answer, OK)
                    )
        return [rankings[number] for number in range(len(questions))]

    def close(self) -> None:
        """Close the MLLM and the cache; calls that wait for an answer end with the error that the backend raises."""
        self._closed = True
        self.mllm.close()
        if self._cache is not None:
            self._cache.close()

    def _key(self, question: Question) -> str:
        return answer_key(
            image_sha256=question.image_sha256,
            candidates=question.candidates,
            identity=self.mllm.identity,
            prompt_version=PROMPT_VERSION,
            mode=self._mode,
            rotations=self._rotations,
            image_size=self._image_size,
            descriptions=self._descriptions,
        )

    def _ranking(self, question: Question, answer: Answer, status: str) -> Ranking:
        log_answer = np.asarray(answer.log_probs)
        if self._mode == "list":
            # A list gives no probabilities, so its p-th name gets retrieval's p-th largest.
            order = descending(log_answer)
            values = sorted(unchanged_ranking(question.candidates, status).probabilities, reverse=True)
            by_place = dict(zip(order, values, strict=True))
            probabilities = tuple(by_place[place] for place in range(len(order)))
            return Ranking(order, probabilities, status, reasons=answer.reasons)
        fused = fuse(log_answer, [candidate.confidence for candidate in question.candidates], self._weight)
        own = tuple(np.exp(log_answer).tolist())
        return Ranking(descending(fused), tuple(fused.tolist()), status, own, answer.reasons)

    def _chunks(self, waiting: Sequence[tuple[Question, str]]) -> Iterator[list[tuple[Question, str]]]:
        """Cut the questions into calls that keep the MLLM busy, and small enough to notice early that it is dead."""
        chunk: list[tuple[Question, str]] = []
        requests = 0
        for question, key in waiting:
            chunk.append((question, key))
            options = len(question.candidates)
            requests += len(rotation_starts(options, self._rotations)) if self._mode == "choice" else 1
            if requests >= 2 * self.mllm.parallel:
                yield chunk
                chunk, requests = [], 0
        if chunk:
            yield chunk

    def _ask(self, chunk: Sequence[tuple[Question, str]]) -> list[Answer | Failure]:
        """Ask about a chunk, cache the complete answers, and count failures in a row."""
        if self._patience.is_over:
            self.counts.add_skipped(len(chunk))
            return [Failure(GAVE_UP)] * len(chunk)
        loaded = [self._loaded(question) for question, _ in chunk]
        with self.counts.busy():
            questions = [question for question in loaded if isinstance(question, Question)]
            replies = iter(ask_apart(self._answers, questions, closed=lambda: self._closed))
        answers: list[Answer | Failure] = []
        for question, (_, key) in zip(loaded, chunk, strict=True):
            answer = question if isinstance(question, Failure) else next(replies)
            failure = answer if isinstance(answer, Failure) else None
            self.counts.add_asked(failure.status if failure else None)
            if isinstance(question, Question):  # an image that cannot be read says nothing about the MLLM
                self._patience.watch(failure)
            if isinstance(answer, Answer) and self._cache is not None and not answer.failed:
                self._cache.put(key, answer)
            answers.append(answer)
        return answers

    def _answers(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        if isinstance(self.mllm, Scorer):
            return ask_by_score(self.mllm, questions, descriptions=self._descriptions, counts=self.counts)
        if self._mode == "list":
            return ask_by_list(self.mllm, questions, counts=self.counts)
        return ask_by_choice(
            self.mllm, questions, rotations=self._rotations, descriptions=self._descriptions, counts=self.counts
        )

    def _loaded(self, question: Question) -> Question | Failure:
        """Return the question with its image in memory, scaled to the limit."""
        image = scaled_image(question.load, self._image_size)
        return image if isinstance(image, Failure) else replace(question, load=lambda: image)


def descending(values: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the positions of the values from the largest to the smallest; equal values stay in order."""
    return tuple(np.argsort(-values, kind="stable").tolist())
