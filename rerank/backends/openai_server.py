"""A multimodal LLM behind any OpenAI-compatible server: vLLM, llama.cpp, Ollama, LM Studio, hosted ones.

How a server can be made to answer with one symbol is found out once, with the first request, while the others wait:

1. The question is asked plainly. That shows whether key and model are right (a 401, 403 or 404 ends it here, after one
   request), whether the server gives log-probabilities (a server that refuses them is asked again without), and what
   it says when nothing restricts it.
2. Each constrained dialect is asked to answer with one symbol only: one that the plain answer does not mention. A
   server that ignores the constraint repeats its plain answer, for decoding is greedy, so that symbol proves that it
   obeys. Reading the answer of an ordinary request would prove nothing: a good model answers `A` without being forced.
3. The first dialect obeyed is remembered. With none, the plain answer is the answer and text is read from then on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rerank.backends.dialects import (
    BUSY_CODES,
    CONSTRAINED,
    PLAIN,
    TOP_LOGPROBS,
    Answer,
    Dialect,
    FailedRequest,
    UnreadableError,
    chat_body,
    read_answer,
    symbol_log_probs,
    unmentioned_symbol,
)
from rerank.backends.event_loop import EventLoopThread
from rerank.backends.image_data import SharedImages
from rerank.mllm import Choice, ChoiceRequest, Failure, ListRequest, MllmUnavailable, Reply

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI


from urllib.parse import urlsplit


def checked_address(base_url: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        MllmUnavailable: it is none, or it carries a password or a query, which would show up in messages.
    """
    try:
        parts = urlsplit(base_url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MllmUnavailable(f"{base_url!r} is no address of a server; it should look like http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise MllmUnavailable(
            f"the address of {parts.hostname} must have no password, query or fragment, for it is shown in messages; "
            "put the key into the environment"
        )
    return base_url.rstrip("/")


LONGEST_CONNECT_S = 5.0
LONGEST_BACKOFF_S = 8.0
# So many failed probes in a row, and whoever was waiting for one fails with the last.
MOST_PROBES = 3

logger = logging.getLogger(__name__)


class OpenAIServer:
    """Asks an OpenAI-compatible server, several requests at a time, through the `openai` client.

    Calls may come from several threads; all share the limit of requests in flight. A failing request becomes a
    `Failure`: `timeout`; `unreachable` (no connection, a broken one, or 408, 409, 429, 5xx after all retries);
    `refused` (other codes; 401, 403 and 404 are hopeless, and nothing is sent after them); `unreadable: REASON`.

    Attributes:
        name: model and address.
        identity: address, model and how images are encoded.
        dialect: how answers are restricted; None until the first request is answered.
        ignored: answers outside the symbols although the server had shown that it obeys.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str | None = None,
        revision: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout_s: float = 60.0,
        deadline_s: float | None = None,
        retries: int = 2,
        backoff_s: float = 0.5,
        jpeg_quality: int | None = 95,
        most_reply_bytes: int = 1_000_000,
    ) -> None:
        """Open the client. Asks the server only where no model is given.

        Args:
            base_url: such as `http://127.0.0.1:8000/v1`.
            model: as the server calls it; None for the first one it lists.
            revision: of what it serves, as you know it; tells cached answers apart.
            api_key_env: environment variable that holds the key; local servers commonly need none.
            concurrency: most requests in flight.
            timeout_s: for one attempt in all, from connecting to the last byte.
            deadline_s: for one request over all attempts and waits; None for `(retries + 1) * timeout_s`.
            retries: further attempts after a broken connection, 408, 409, 429 or 5xx. A time-out is not repeated: a
                server that is too slow is not helped by more work.
            backoff_s: longest wait before the first retry; doubles with each, at random between half of it and all.
                A `Retry-After` of the server counts instead, up to 30 s.
            jpeg_quality: 1 to 100; None for PNG.
            most_reply_bytes: a longer reply is not read to its end.

        Raises:
            MllmUnavailable: the `openai` package is missing, the address is none, or no model could be found there.
            ValueError: a number out of its range.
        """
        if concurrency < 1 or retries < 0 or not timeout_s > 0 or most_reply_bytes < 1:
            raise ValueError(
                f"concurrency {concurrency}, timeout_s {timeout_s} and most_reply_bytes {most_reply_bytes} must be "
                f"positive, retries {retries} not negative"
            )
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality {jpeg_quality} must be 1 to 100, or None for PNG")
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise MllmUnavailable(
                f"asking a server needs a package that is missing ({error.name}); pip install 'openai>=3'"
            ) from None
        self._base_url = checked_address(base_url)
        self._api_key_env = api_key_env
        self._key = os.environ.get(api_key_env) or "none"
        if not (self._key.isascii() and self._key.isprintable()):
            raise MllmUnavailable(f"the key in {api_key_env} has characters that no HTTP header can carry")
        self._timeout_s, self._retries, self._backoff_s = timeout_s, retries, backoff_s
        self._deadline_s = (retries + 1) * timeout_s if deadline_s is None else deadline_s
        self._jpeg_quality, self._most_reply_bytes = jpeg_quality, most_reply_bytes
        # Errors while a body arrives are not wrapped by the client.
        self._timeouts: tuple[type[Exception], ...] = TimeoutError, openai.APITimeoutError, httpx2.TimeoutException
        self._connection_errors: tuple[type[Exception], ...] = openai.APIConnectionError, httpx2.RequestError, OSError
        self._status_error: type[APIStatusError] = openai.APIStatusError
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._key,
            timeout=openai.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S)),
            max_retries=0,  # only one layer retries, and the client's own knows no deadline
            default_headers={"Accept-Encoding": "identity"},  # a small reply cannot unpack into a huge one
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._probing = asyncio.Lock()
        self.dialect: Dialect | None = None
        self.ignored = 0
        self._logprobs = True
        self._hopeless_code: int | None = None
        self._failed_probes = 0
        self._gave_up_at = -1.0
        self._last_failure = Failure("unreachable")
        self._loop = EventLoopThread("openai-server")
        try:
            self._model = model or self._loop.run(self._first_model())
        except BaseException:
            self.close()
            raise
        self.parallel = concurrency
        self.name = f"{self._model} at {self._base_url}"
        quality = "png" if jpeg_quality is None else f"jpeg {jpeg_quality}"
        self.identity = f"{self._base_url} {self._model}{f'@{revision}' if revision else ''} {quality}"

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
        """Cancel what is in flight (its callers get a RuntimeError), close connections, end the thread."""
        self._loop.close(self._client.close)

    async def _choice(self, request: ChoiceRequest, images: SharedImages, asked_at: float) -> Choice | Failure:
        try:
            url = await _encoded(request, images)  # before its turn: no slot waits for it
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
                answer = await self._ask(url, request.text, request.max_tokens, {})
        except (FailedRequest, UnreadableError) as error:
            return self._failure(error)
        return Reply(answer.text, answer.usage)

    async def _constrained(self, dialect: Dialect, url: str, request: ChoiceRequest) -> Choice:
        fields = dialect.fields(request.symbols) | self._logprob_fields()
        answer = await self._ask(url, request.text, dialect.max_tokens, fields)
        try:
            return _read_choice(dialect, answer, request.symbols)
        except UnreadableError:
            if dialect is not PLAIN:
                self.ignored += 1
                if self.ignored == 1:
                    logger.warning("%s ignored the restriction to option letters (%s)", self.name, dialect.name)
            raise

    async def _probe(self, url: str, request: ChoiceRequest, asked_at: float) -> Choice | Failure:
        """Find the dialect and answer the request; failing, let the next request try, but not all of them in turn."""
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

    async def _ask_plainly(self, url: str, request: ChoiceRequest) -> Answer:
        self._logprobs = True
        try:
            return await self._ask(url, request.text, PLAIN.max_tokens, self._logprob_fields())
        except FailedRequest as failed:
            if failed.status != "refused" or failed.hopeless:
                raise
        self._logprobs = False
        return await self._ask(url, request.text, PLAIN.max_tokens, {})

    async def _obeyed(self, url: str, request: ChoiceRequest, plain: Answer) -> Dialect:
        """Return the first dialect that forces a symbol which the plain answer does not mention."""
        forced = (unmentioned_symbol(plain.text, request.symbols),)
        for dialect in CONSTRAINED:
            fields = dialect.fields(forced) | self._logprob_fields()
            try:
                answer = await self._ask(url, request.text, dialect.max_tokens, fields, stubborn=True)
                dialect.read(answer.text, forced)
            except UnreadableError:
                continue
            except FailedRequest as failed:
                if failed.status != "refused" and (failed.code is None or failed.code in BUSY_CODES):
                    raise  # the server is away or busy, which says nothing of its dialect
                continue
            return dialect
        return PLAIN

    def _logprob_fields(self) -> dict[str, Any]:
        return {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._logprobs else {}

    async def _ask(
        self, url: str, text: str, max_tokens: int, fields: Mapping[str, Any], *, stubborn: bool = False
    ) -> Answer:
        """Send one question until it is answered, refused, or out of attempts or time; `stubborn` repeats time-outs."""
        body = chat_body(self._model, url, text, max_tokens, fields)
        end = time.monotonic() + self._deadline_s
        attempt = 0
        while True:
            if self._hopeless_code is not None:
                raise FailedRequest.by_code(self._hopeless_code, {})
            try:
                return self._read(await self._post(body, end))
            except FailedRequest as failed:
                # While probing, a router may refuse the field, not the key or the model.
                if failed.hopeless and not stubborn:
                    self._hopeless_code = failed.code
                backoff = min(self._backoff_s * 2**attempt, LONGEST_BACKOFF_S) * random.uniform(0.5, 1)
                wait = backoff if failed.retry_after_s is None else failed.retry_after_s
                again = failed.status == "unreachable" or (stubborn and failed.status == "timeout")
                if not again or attempt >= self._retries or time.monotonic() + wait >= end:
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    async def _post(self, body: Mapping[str, Any], end: float) -> bytes:
        """Make one attempt; return the body of a successful reply, without the key should it be in there."""
        create: Any = self._client.chat.completions.with_streaming_response.create
        reply = bytearray()
        try:
            async with (
                asyncio.timeout(min(self._timeout_s, end - time.monotonic())),
                create(**body) as response,
            ):
                async for chunk in response.iter_bytes():
                    reply += chunk
                    if len(reply) > self._most_reply_bytes:
                        raise UnreadableError(f"more than {self._most_reply_bytes} bytes")
        except self._timeouts:
            raise FailedRequest("timeout") from None
        except self._status_error as error:
            raise FailedRequest.by_code(error.status_code, error.response.headers) from None
        except self._connection_errors:
            raise FailedRequest("unreachable") from None
        return bytes(reply)

    def _read(self, reply: bytes) -> Answer:
        """Read a reply; should the key be in its text, or in what is shown of a broken one, it is masked."""
        if self._key == "none" or self._key.encode() not in reply:
            return read_answer(reply)
        try:
            answer = read_answer(reply)
        except UnreadableError:
            return read_answer(reply.replace(self._key.encode(), b"***"))
        return replace(answer, text=answer.text.replace(self._key, "***"))

    def _failure(self, error: FailedRequest | UnreadableError) -> Failure:
        if isinstance(error, UnreadableError):
            return Failure(f"unreadable: {error}")
        hints = {401: f"is the key in {self._api_key_env} right?", 404: "is the model's name right?"}
        hint = "" if error.code is None else f"HTTP {error.code}; {hints.get(error.code, '')}".rstrip("; ")
        return Failure(error.status, error.hopeless, hint)

    async def _first_model(self) -> str:
        try:
            async with asyncio.timeout(self._timeout_s):
                listed = await self._client.get("/models", cast_to=object)
        except (*self._timeouts, *self._connection_errors):
            problem = "does not answer (is a server running there?)"
        except self._status_error as error:
            key = f" (is the key in {self._api_key_env} right?)" if error.status_code in (401, 403) else ""
            problem = f"refuses to list its models with HTTP {error.status_code}{key}"
        except ValueError:
            problem = "does not list its models in JSON"
        else:
            match listed:
                case {"data": [{"id": str(first)}, *_]}:
                    return first
            problem = "lists no model"
        raise MllmUnavailable(
            f"{self._base_url} {problem}. Give the base URL of an OpenAI-compatible server, such as "
            "http://127.0.0.1:8000/v1, or name the model that it serves."
        )


async def _encoded(request: ChoiceRequest | ListRequest, images: SharedImages) -> str:
    try:
        return await images.take(request.image)
    except (OSError, ValueError):
        raise UnreadableError("the image cannot be encoded") from None


def _read_choice(dialect: Dialect, answer: Answer, symbols: Sequence[str]) -> Choice:
    chosen = dialect.read(answer.text, symbols)
    return Choice(symbol_log_probs(answer, symbols, chosen), chosen, answer.usage)
