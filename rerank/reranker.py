"""Ranking candidates with an MLLM: from images and candidates to requests, and from answers to rankings.

An image costs one request per rotation, an answer that is in the cache none. Whatever goes wrong, the order given is
kept and the status says why; after some failures in a row the MLLM is left alone for good.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rerank.ask import Answered, Asked, Method, ask_by_choice, ask_by_list
from rerank.base import ALONE, CACHED, GAVE_UP, OK, Candidate, Ranking, RerankError, check_distinct, kept
from rerank.cache import Answer, AnswerCache, answer_key
from rerank.choice import fuse
from rerank.counts import RerankCounts
from rerank.mllm import Failure, Mllm
from rerank.prompt import PROMPT_VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

METHODS: dict[str, Method] = {"choice": ask_by_choice, "list": ask_by_list}


@dataclass(frozen=True, slots=True)
class Question:
    """One image with its candidates.

    Attributes:
        image_sha256: names the image's content, for the cache.
        load: returns the image; called only where the answer is not in the cache. What it raises as OSError or
            ValueError fails this question alone.
        candidates: distinct, best first.
    """

    image_sha256: str
    load: Callable[[], Image]
    candidates: Sequence[Candidate]


class MllmReranker:
    """Orders candidates by asking a frozen MLLM. Safe to use from several threads.

    Args:
        mllm: who is asked.
        mode: `choice`: one option symbol under constrained decoding; `list`: a sorted list, written freely.
        rotations: of the options, per image; None: as many as options. A list is asked for once.
        weight: lambda of the fusion, softmax(lambda log p_mllm + log p_retrieval).
        descriptions: shown per option, at most.
        image_size: longest side in pixels of what the MLLM is shown; larger images are scaled down.
        cache: of answers; None: everything is asked.
        give_up_after: failed images in a row after which nothing is asked any more.
        warn: called with one sentence when the MLLM is given up.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        mllm: Mllm,
        *,
        mode: str = "choice",
        rotations: int | None = None,
        weight: float = 1.0,
        descriptions: int = 3,
        image_size: int = 768,
        cache: AnswerCache | None = None,
        give_up_after: int = 5,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Take the MLLM and how it is asked; nothing is asked yet."""
        if mode not in METHODS:
            raise ValueError(f"mode {mode!r}; known are {', '.join(METHODS)}")
        self.mllm = mllm
        self.counts = RerankCounts()
        self._mode, self._rotations, self._weight, self._descriptions = mode, rotations, weight, descriptions
        self._image_size, self._cache = image_size, cache
        self._give_up_after, self._warn = give_up_after, warn
        self._failed_in_a_row = 0
        self._gave_up = False
        self._closed = False
        self._lock = threading.Lock()

    def rank(self, image: Image, candidates: Sequence[Candidate]) -> Ranking:
        """Order the candidates of one image.

        Raises:
            ValueError: two candidates are the same.
        """
        rgb = image.convert("RGB")  # as it is asked about: bytes of other modes may mean several pictures
        digest = hashlib.sha256(f"{rgb.size} ".encode() + rgb.tobytes()).hexdigest()
        return self.rank_many([Question(digest, lambda: rgb, candidates)])[0]

    def rank_many(self, questions: Sequence[Question]) -> list[Ranking]:
        """Order the candidates of many images; each has its own answer or its own failure.

        Returns:
            One ranking per question, in order.

        Raises:
            ValueError: two candidates of one question are the same.
        """
        for question in questions:
            check_distinct(question.candidates)
        keys = [self._key(question) for question in questions]
        known = self._cache.get_many(keys) if self._cache is not None else {}
        rankings: dict[int, Ranking] = {}
        waiting: dict[str, list[int]] = {}  # copies of an image that is asked about share its answer
        for number, (question, key) in enumerate(zip(questions, keys, strict=True)):
            if len(question.candidates) < 2:
                rankings[number] = kept(question.candidates, ALONE)
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
                        kept(question.candidates, answer.status)
                        if isinstance(answer, Failure)
                        else self._ranking(question, answer, OK)
                    )
        return [rankings[number] for number in range(len(questions))]

    def close(self) -> None:
        """Let go of the MLLM and of the cache; what is being asked ends with whatever the backend raises."""
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
        shown = tuple(np.exp(log_answer).tolist())
        if self._mode == "list":
            return _ranking_of_list(question.candidates, by_value(log_answer), status, answer.reasons)
        fused = fuse(log_answer, [candidate.confidence for candidate in question.candidates], self._weight)
        return Ranking(by_value(fused), tuple(fused.tolist()), status, shown, answer.reasons)

    def _chunks(self, asked: Sequence[tuple[Question, str]]) -> Iterator[list[tuple[Question, str]]]:
        """Slice what is to be asked, so that a dead MLLM is noticed before everything was tried on it."""
        chunk: list[tuple[Question, str]] = []
        requests = 0
        for question, key in asked:
            chunk.append((question, key))
            options = len(question.candidates)
            requests += 1 if self._mode == "list" else min(options, self._rotations or options)
            if requests >= 2 * self.mllm.parallel:
                yield chunk
                chunk, requests = [], 0
        if chunk:
            yield chunk

    def _ask(self, chunk: Sequence[tuple[Question, str]]) -> list[Answer | Failure]:
        """Ask about a chunk, keep what was answered in full, and watch for failures in a row."""
        with self._lock:
            if self._gave_up:
                self.counts.add_skipped(len(chunk))
                return [Failure(GAVE_UP)] * len(chunk)
        images = [self._load(question) for question, _ in chunk]
        loaded = [number for number, image in enumerate(images) if not isinstance(image, Failure)]
        ask = [
            Asked(image, chunk[number][0].candidates)
            for number, image in enumerate(images)
            if not isinstance(image, Failure)
        ]
        with self.counts.busy():
            answered = dict(zip(loaded, self._outcomes(ask), strict=True))
        answers: list[Answer | Failure] = []
        for number, ((_, key), image) in enumerate(zip(chunk, images, strict=True)):
            outcome = image if isinstance(image, Failure) else answered[number]
            self.counts.add_asked(outcome.status if isinstance(outcome, Failure) else None)
            if number in answered:  # an image that cannot be read says nothing of the MLLM
                self._watch(outcome if isinstance(outcome, Failure) else None)
            if isinstance(outcome, Failure):
                answers.append(outcome)
                continue
            if self._cache is not None and outcome.complete:
                self._cache.put(key, outcome.answer)
            answers.append(outcome.noted())
        return answers

    def _outcomes(self, ask: Sequence[Asked]) -> list[Answered | Failure]:
        """Ask the MLLM; whatever its backend raises, it costs the image that caused it and no other."""
        try:
            return METHODS[self._mode](
                self.mllm, ask, rotations=self._rotations, descriptions=self._descriptions, counts=self.counts
            )
        except RerankError:
            raise
        except Exception as error:
            if self._closed:
                raise  # of a run that was interrupted, it says nothing
            if len(ask) > 1:
                return [outcome for one in ask for outcome in self._outcomes([one])]
            return [Failure(f"unreadable: {type(error).__name__}", hint=" ".join(str(error).split())[:200])]

    def _load(self, question: Question) -> Image | Failure:
        try:
            image = question.load().convert("RGB")
        except (OSError, ValueError) as error:
            return Failure(f"unreadable: image: {str(error)[:80]}")
        if max(image.size) > self._image_size:
            image.thumbnail((self._image_size, self._image_size))  # keeps the aspect ratio
        return image

    def _watch(self, failure: Failure | None) -> None:
        """Count failures in a row; give up when they are enough, or when one says that there is no hope."""
        with self._lock:
            self._failed_in_a_row = 0 if failure is None else self._failed_in_a_row + 1
            if failure is None or self._gave_up:
                return
            if not failure.hopeless and self._failed_in_a_row < self._give_up_after:
                return
            self._gave_up = True
        if self._warn is not None:
            last = f"{failure.status}; {failure.hint}" if failure.hint else failure.status
            self._warn(
                f"{self.mllm.name} is left alone for the rest of the run after {self._failed_in_a_row} failed images "
                f"in a row (the last: {last}); retrieval's order is kept for the others"
            )


def by_value(values: NDArray[np.float64]) -> tuple[int, ...]:
    """Return places by falling value; equal values keep their order."""
    return tuple(np.argsort(-values, kind="stable").tolist())


def _ranking_of_list(
    candidates: Sequence[Candidate], order: tuple[int, ...], status: str, reasons: tuple[str, ...]
) -> Ranking:
    """Order candidates as a list says; it gives no probabilities, so its p-th place takes retrieval's p-th largest."""
    values = sorted(kept(candidates, status).probabilities, reverse=True)
    probabilities = dict(zip(order, values, strict=True))
    return Ranking(order, tuple(probabilities[place] for place in range(len(order))), status, reasons=reasons)
