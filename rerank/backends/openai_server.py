"""A multimodal LLM behind any OpenAI-compatible server: vLLM, llama.cpp, Ollama, LM Studio, hosted ones.

The first request finds out how the server can be made to answer with one symbol, while the others wait:

1. The question is asked plainly. That shows whether key and model are right (a 401, 403 or 404 ends it here, after one
   request), whether the server gives log-probabilities (a server that refuses them is asked again without), and what
   it answers when nothing restricts it.
2. In each constrained dialect the server is asked to answer with one symbol only: one that the plain answer does not
   mention. A server that ignores the constraint repeats its plain answer, for decoding is greedy, so that symbol proves
   that it obeys. The answer to an ordinary request would prove nothing: a good model answers `A` without being forced.
3. The first dialect that the server obeys is remembered. If there is none, the plain answer counts, and answers are
   read as text from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from rerank.backends.chat import BUSY_CODES, Completion, FailedRequest, UnreadableError
from rerank.backends.chat_client import ChatClient
from rerank.backends.dialects import (
    CONSTRAINED,
    PLAIN,
    TOP_LOGPROBS,
    Dialect,
    symbol_log_probs,
    unmentioned_symbol,
)
from rerank.backends.event_loop import EventLoopThread
from rerank.backends.image_data import SharedImages
from rerank.mllm import Choice, ChoiceRequest, Failure, ListRequest, Reply

# After so many failed probes in a row, the requests that wait for one fail with the last one's failure.
MOST_PROBES = 3

logger = logging.getLogger(__name__)


class OpenAIServer:
    """Asks an OpenAI-compatible server, several requests at a time, through the `openai` client.

    Calls may come from several threads; all share the limit of requests in flight. A request that fails becomes a
    `Failure`: `timeout`; `unreachable` (no connection, a broken one, or 408, 409, 429, 5xx after all retries);
    `refused` (other codes; 401, 403 and 404 are hopeless, and nothing is sent after them); `unreadable: REASON`.

    Attributes:
        name: model and address.
        identity: address, model and how images are encoded.
        dialect: how answers are restricted; None until the first request is answered.
        ignored: answers outside the symbols after the server had shown that it obeys.
    """

    def __init__(
        self,
        client: ChatClient,
        *,
        model: str | None = None,
        revision: str | None = None,
        concurrency: int = 16,
        jpeg_quality: int | None = 95,
    ) -> None:
        """Start the thread that sends. The server is asked only if no model is named.

        Args:
            client: of the server; closed with this object.
            model: its name at the server; None for the first one that the server lists.
            revision: of the model, as you know it; part of `identity`.
            concurrency: requests in flight, at most.
            jpeg_quality: 1 to 100; None for PNG.

        Raises:
            MllmUnavailable: no model could be found.
            ValueError: a number is out of its range.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency} must be positive")
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality {jpeg_quality} must be 1 to 100, or None for PNG")
        self._client = client
        self._jpeg_quality = jpeg_quality
        self._slots = asyncio.Semaphore(concurrency)
        self._probing = asyncio.Lock()
        self.dialect: Dialect | None = None
        self.ignored = 0
        self._logprobs = True
        self._failed_probes = 0
        self._gave_up_at = -1.0
        self._last_failure = Failure("unreachable")
        self._loop = EventLoopThread("openai-server")
        try:
            self._model = model or self._loop.run(client.first_model())
        except BaseException:
            self.close()
            raise
        self.parallel = concurrency
        self.name = f"{self._model} at {client.base_url}"
        quality = "png" if jpeg_quality is None else f"jpeg {jpeg_quality}"
        self.identity = f"{client.base_url} {self._model}{f'@{revision}' if revision else ''} {quality}"

    def __repr__(self) -> str:
        """Name the model and the address; never the key."""
        return f"OpenAIServer({self.name})"

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request with one symbol."""

        async def choose_all() -> list[Choice | Failure]:
            images = SharedImages((request.image for request in requests), self._jpeg_quality)
            asked_at = time.monotonic()
            return await asyncio.gather(*(self._choice(request, images, asked_at) for request in requests))

        return self._loop.run(choose_all())

    def write(self, requests: Sequence[ListRequest]) -> list[Reply | Failure]:
        """Answer each request in free text, greedily."""

        async def write_all() -> list[Reply | Failure]:
            images = SharedImages((request.image for request in requests), self._jpeg_quality)
            return await asyncio.gather(*(self._reply(request, images) for request in requests))

        return self._loop.run(write_all())

    def close(self) -> None:
        """Cancel the requests in flight (their callers get a RuntimeError), close connections, end the thread."""
        self._loop.close(self._client.close)

    async def _choice(self, request: ChoiceRequest, images: SharedImages, asked_at: float) -> Choice | Failure:
        try:
            url = await _encoded(request, images)  # before it takes a slot, so that no slot waits for it
            async with self._slots:
                if self.dialect is None:
                    async with self._probing:
                        if self.dialect is None:
                            return await self._probe(url, request, asked_at)
                return await self._constrained(self.dialect, url, request)
        except (FailedRequest, UnreadableError) as error:
            return self._failure(error)

    async def _reply(self, request: ListRequest, images: SharedImages) -> Reply | Failure:
        try:
            url = await _encoded(request, images)
            async with self._slots:
                completion = await self._ask(url, request.text, request.max_tokens, {})
        except (FailedRequest, UnreadableError) as error:
            return self._failure(error)
        return Reply(completion.text, completion.usage)

    async def _constrained(self, dialect: Dialect, url: str, request: ChoiceRequest) -> Choice:
        fields = dialect.fields(request.symbols) | self._logprob_fields()
        completion = await self._ask(url, request.text, dialect.max_tokens, fields)
        try:
            return _read_choice(dialect, completion, request.symbols)
        except UnreadableError:
            if dialect is not PLAIN:
                self.ignored += 1
                if self.ignored == 1:
                    logger.warning("%s ignored the restriction to option letters (%s)", self.name, dialect.name)
            raise

    async def _probe(self, url: str, request: ChoiceRequest, asked_at: float) -> Choice | Failure:
        """Find the dialect and answer the request; if that fails the next request tries, up to `MOST_PROBES` in all."""
        if asked_at < self._gave_up_at:
            return self._last_failure
        try:
            plain = await self._ask_plainly(url, request)
            dialect = await self._obeyed(url, request, plain)
        except (FailedRequest, UnreadableError) as error:
            self._failed_probes += 1
            if self._failed_probes % MOST_PROBES == 0:
                self._gave_up_at, self._last_failure = time.monotonic(), self._failure(error)
            raise
        self.dialect = dialect
        if dialect is PLAIN:
            logger.warning("%s ignores every way to restrict an answer; it is only asked for one letter", self.name)
        if not self._logprobs:
            logger.warning("%s gives no log-probabilities; the rotations of the options vote instead", self.name)
        if dialect is PLAIN:
            return _read_choice(PLAIN, plain, request.symbols)
        return await self._constrained(dialect, url, request)

    async def _ask_plainly(self, url: str, request: ChoiceRequest) -> Completion:
        self._logprobs = True
        try:
            return await self._ask(url, request.text, PLAIN.max_tokens, self._logprob_fields())
        except FailedRequest as failed:
            if failed.status != "refused" or failed.hopeless:
                raise
        self._logprobs = False
        return await self._ask(url, request.text, PLAIN.max_tokens, {})

    async def _obeyed(self, url: str, request: ChoiceRequest, plain: Completion) -> Dialect:
        """Return the first dialect that forces a symbol which the plain answer does not mention."""
        forced = (unmentioned_symbol(plain.text, request.symbols),)
        for dialect in CONSTRAINED:
            fields = dialect.fields(forced) | self._logprob_fields()
            try:
                completion = await self._ask(url, request.text, dialect.max_tokens, fields, probing=True)
                dialect.read(completion.text, forced)
            except UnreadableError:
                continue
            except FailedRequest as failed:
                if failed.status != "refused" and (failed.code is None or failed.code in BUSY_CODES):
                    raise  # the server is away or busy, which says nothing about its dialect
                continue
            return dialect
        return PLAIN

    def _logprob_fields(self) -> dict[str, Any]:
        return {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._logprobs else {}

    async def _ask(
        self, url: str, text: str, max_tokens: int, fields: dict[str, Any], *, probing: bool = False
    ) -> Completion:
        return await self._client.ask(self._model, url, text, max_tokens, fields, probing=probing)

    def _failure(self, error: FailedRequest | UnreadableError) -> Failure:
        if isinstance(error, UnreadableError):
            return Failure(f"unreadable: {error}")
        return Failure(error.status, error.hopeless, self._client.hint(error))


async def _encoded(request: ChoiceRequest | ListRequest, images: SharedImages) -> str:
    try:
        return await images.take(request.image)
    except (OSError, ValueError):
        raise UnreadableError("the image cannot be encoded") from None


def _read_choice(dialect: Dialect, completion: Completion, symbols: Sequence[str]) -> Choice:
    chosen = dialect.read(completion.text, symbols)
    return Choice(symbol_log_probs(completion, symbols, chosen), chosen, completion.usage)
