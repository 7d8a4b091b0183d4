"""Ask an MLLM for written text: look into the cache, ask each other question once, in batches that keep it busy.

A question has its text or its own failure. After some failures in a row the MLLM is not asked any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rerank.base import GAVE_UP
from rerank.cache import AnswerCache, text_key
from rerank.careful import Patience, ask_apart, scaled_image
from rerank.counts import RerankCounts
from rerank.mllm import Failure, Mllm, WriteRequest

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class WriteQuestion:
    """A question that written text answers.

    Attributes:
        text: all that is asked, with the wanted form of the answer.
        max_tokens: after which the answer is cut off.
        schema: JSON schema of the answer; not every backend enforces it.
        image_sha256: identifies the content of the image, for the cache; empty for no image.
        load: returns the image; called only if the answer is not in the cache. An OSError or ValueError that it raises
            fails this question alone.

    Raises:
        ValueError: an image without its hash, or a hash without an image.
    """

    text: str
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    image_sha256: str = ""
    load: Callable[[], Image] | None = None

    def __post_init__(self) -> None:
        """Check that image and hash come together."""
        if bool(self.image_sha256) != (self.load is not None):
            raise ValueError("image_sha256 and load must come together: the cache knows an image by its hash")


class Writer:
    """Answers questions with text that an MLLM writes. Safe to use from several threads.

    Args:
        mllm: the model to ask.
        image_size: longest side in pixels of the image that it sees; larger images are scaled down.
        cache: of answers; None: every question is asked.
        give_up_after: failed questions in a row after which the MLLM is not asked any more.
        warn: called with one sentence when that happens, and with the first failure of each kind: what the model's
            server said is foreign text, not escaped.
    """

    def __init__(
        self,
        mllm: Mllm,
        *,
        image_size: int = 768,
        cache: AnswerCache | None = None,
        give_up_after: int = 5,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Store the settings; nothing is asked yet."""
        self.mllm = mllm
        self.counts = RerankCounts("questions")
        self._image_size, self._cache = image_size, cache
        self._patience = Patience(
            mllm.name,
            item="question",
            then="the others have no answer",
            give_up_after=give_up_after,
            warn=warn,
        )
        self._closed = False

    def write(self, questions: Sequence[WriteQuestion]) -> list[str | Failure]:
        """Answer each question, in order; equal questions are asked once.

        Every answer is in the cache before the next batch is asked, so a killed process loses one batch at most. What
        failed is not cached: it is asked again by the next run.
        """
        keys = [self._key(question) for question in questions]
        answers: dict[str, str | Failure] = {}
        if self._cache is not None:
            answers.update(self._cache.get_texts(keys))
        waiting = {key: question for key, question in zip(keys, questions, strict=True) if key not in answers}
        for _ in range(len(questions) - len(waiting)):
            self.counts.add_cached()
        asked = list(waiting.items())
        # Twice as many as the model works on at a time keep it busy; few enough to notice early that it is dead.
        size = 2 * self.mllm.parallel
        for start in range(0, len(asked), size):
            batch = asked[start : start + size]
            answers.update(zip((key for key, _ in batch), self._ask(batch), strict=True))
        return [answers[key] for key in keys]

    def close(self) -> None:
        """Close the MLLM and the cache; calls that wait for an answer end with the error that the backend raises."""
        self._closed = True
        self.mllm.close()
        if self._cache is not None:
            self._cache.close()

    def _key(self, question: WriteQuestion) -> str:
        return text_key(
            image_sha256=question.image_sha256,
            text=question.text,
            schema=question.schema,
            max_tokens=question.max_tokens,
            image_size=self._image_size,
            identity=self.mllm.identity,
        )

    def _ask(self, batch: Sequence[tuple[str, WriteQuestion]]) -> list[str | Failure]:
        """Ask a batch, cache the answers, and count failures in a row."""
        if self._patience.is_over:
            self.counts.add_skipped(len(batch))
            return [Failure(GAVE_UP)] * len(batch)
        requests = [self._request(question) for _, question in batch]
        with self.counts.busy():
            sent = [request for request in requests if isinstance(request, WriteRequest)]
            replies = iter(ask_apart(self.mllm.write, sent, closed=lambda: self._closed) if sent else [])
        answers: list[str | Failure] = []
        for (key, _), request in zip(batch, requests, strict=True):
            if isinstance(request, Failure):  # says nothing about the MLLM
                self.counts.add_asked(request.status)
                answers.append(request)
                continue
            reply = next(replies)
            failure = reply if isinstance(reply, Failure) else None
            self.counts.add_asked(failure.status if failure else None)
            self.counts.add_request(None if isinstance(reply, Failure) else reply.usage)
            self._patience.watch(failure)
            if not isinstance(reply, Failure) and self._cache is not None:
                self._cache.put_text(key, reply.text)
            answers.append(reply if isinstance(reply, Failure) else reply.text)
        return answers

    def _request(self, question: WriteQuestion) -> WriteRequest | Failure:
        image = None if question.load is None else scaled_image(question.load, self._image_size)
        if isinstance(image, Failure):
            return image
        return WriteRequest(image, question.text, question.max_tokens, question.schema)
