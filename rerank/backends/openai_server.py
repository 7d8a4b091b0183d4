"""A multimodal LLM behind any OpenAI-compatible server: vLLM, llama.cpp, Ollama, LM Studio, hosted ones.

The first request finds out how the server can be made to answer with one symbol, while the others wait:

1. The question is asked plainly. That shows whether key and model are right (a 401, 403 or 404 ends it here, after one
   request), whether the server gives log-probabilities (a server that refuses them is asked again without), and what
   it answers when nothing restricts it. A server that gives none is said so: the rotations of the options vote.
2. In each constrained dialect the server is asked to answer with one symbol only: one that the plain answer does not
   mention. A server that ignores the constraint repeats its plain answer, for decoding is greedy, so that symbol proves
   that it obeys. The answer to an ordinary request would prove nothing: a good model answers `A` without being forced.
3. The first dialect that the server obeys is remembered. If there is none, the plain answer counts, and answers are
   read as text from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from rerank.backends.chat import Completion, Manner, chat_body, read_completion
from rerank.backends.dialects import (
    CONSTRAINED,
    PLAIN,
    TOP_LOGPROBS,
    Dialect,
    schema_fields,
    symbol_log_probs,
    unmentioned_symbol,
)
from rerank.backends.failures import FailedRequest, UnreadableError
from rerank.backends.image_requests import ImageRequests
from rerank.mllm import Choice, ChoiceRequest, Failure, Reply, WriteRequest

# After so many failed probes in a row, the requests that wait for one fail with the last one's failure.
MOST_PROBES = 3


class OpenAIServer:
    """Asks an OpenAI-compatible server, several requests at a time; fails as `ImageRequests` does.

    Attributes:
        name: model and address.
        identity: address, model and how images are encoded.
        dialect: how answers are restricted; None until the first request is answered.
        ignored: answers outside the symbols after the server had shown that it obeys.
    """

    def __init__(self, requests: ImageRequests) -> None:
        """Take what sends to one model; it is closed with this object."""
        self._requests = requests
        self.name, self.identity = requests.name, requests.identity
        self.parallel = requests.parallel
        self._client = requests.client
        self._probing = asyncio.Lock()
        self.dialect: Dialect | None = None
        self.ignored = 0
        self._manner = Manner()
        self._logprobs = True
        self._takes_schemas = True
        self._said_votes = False
        self._failed_probes = 0
        self._gave_up_at = -1.0
        self._last_failure = Failure("unreachable")

    def __repr__(self) -> str:
        """Name the model and the address; never the key."""
        return f"OpenAIServer({self.name})"

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request with one symbol."""
        asked_at = time.monotonic()

        async def send(request: ChoiceRequest, url: str) -> Choice | Failure:
            if self.dialect is None:
                async with self._probing:
                    if self.dialect is None:
                        return await self._probe(url, request, asked_at)
            return await self._constrained(self.dialect, url, request)

        return self._requests.send_all(requests, send)

    def write(self, requests: Sequence[WriteRequest]) -> list[Reply | Failure]:
        """Answer each request in text, greedily, under its schema where the server takes one."""

        async def send(request: WriteRequest, url: str) -> Reply:
            completion = await self._written(url, request)
            return Reply(completion.text, completion.usage)

        return self._requests.send_all(requests, send)

    def close(self) -> None:
        """Cancel the requests in flight (their callers get a RuntimeError), close connections, end the thread."""
        self._requests.close()

    async def _written(self, url: str, request: WriteRequest) -> Completion:
        """Ask under the schema; where that is refused and the plain request is not, no schema is sent from then on."""
        if request.schema is not None and self._takes_schemas:
            fields = schema_fields(request.schema)
            try:
                return await self._ask(url, request.text, request.max_tokens, fields, probing=True)
            except FailedRequest as failed:
                if failed.too_long or not failed.may_be_about_a_field:
                    raise
            completion = await self._ask(url, request.text, request.max_tokens, {})
            if self._takes_schemas:
                self._takes_schemas = False
                self._client.warn(f"{self.name} refuses JSON schemas; answers are read from plain text")
            return completion
        return await self._ask(url, request.text, request.max_tokens, {})

    async def _constrained(self, dialect: Dialect, url: str, request: ChoiceRequest) -> Choice:
        fields = dialect.fields(request.symbols) | self._logprob_fields()
        completion = await self._ask(url, request.text, dialect.max_tokens, fields)
        try:
            return self._read_choice(dialect, completion, request.symbols)
        except UnreadableError:
            if dialect is not PLAIN:
                self.ignored += 1
                if self.ignored == 1:
                    self._client.warn(f"{self.name} ignored the restriction to option letters ({dialect.name})")
            raise

    async def _probe(self, url: str, request: ChoiceRequest, asked_at: float) -> Choice | Failure:
        """Find the dialect and answer the request; if that fails the next request tries, up to `MOST_PROBES` in all."""
        if asked_at < self._gave_up_at:
            return self._last_failure
        try:
            plain = await self._ask_plainly(url, request)
            dialect = await self._obeyed(url, request, plain)
        except (FailedRequest, UnreadableError) as error:
            if isinstance(error, FailedRequest) and error.too_long:
                raise  # says nothing about other prompts
            self._failed_probes += 1
            if self._failed_probes % MOST_PROBES == 0:
                self._gave_up_at, self._last_failure = time.monotonic(), self._requests.failure(error)
            raise
        self.dialect = dialect
        if dialect is PLAIN:
            self._client.warn(f"{self.name} ignores every way to restrict an answer; it is only asked for one letter")
            return self._read_choice(PLAIN, plain, request.symbols)
        return await self._constrained(dialect, url, request)

    async def _ask_plainly(self, url: str, request: ChoiceRequest) -> Completion:
        self._logprobs = True
        try:
            return await self._ask(url, request.text, PLAIN.max_tokens, self._logprob_fields())
        except FailedRequest as failed:
            if failed.status != "refused" or failed.hopeless or failed.too_long:
                raise
            refusal = failed
        self._logprobs = False
        try:
            return await self._ask(url, request.text, PLAIN.max_tokens, {})
        except FailedRequest as failed:
            # What was wrong with the whole request says more than what was wrong with the rest of it.
            raise (refusal if failed.status == "refused" and not failed.too_long else failed) from None

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
                if not failed.may_be_about_a_field:
                    raise  # the server is away or busy, which says nothing about its dialect
                continue
            return dialect
        return PLAIN

    def _logprob_fields(self) -> dict[str, Any]:
        return {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._logprobs else {}

    async def _ask(
        self, url: str, text: str, max_tokens: int, fields: dict[str, Any], *, probing: bool = False
    ) -> Completion:
        """Ask in the manner that the model takes; a field that a refusal names is left out from then on."""
        while True:
            manner = self._manner
            body = chat_body(self._requests.model, url, text, manner.fields(max_tokens) | fields)
            try:
                return read_completion(await self._client.post("/chat/completions", body, probing=probing))
            except FailedRequest as failed:
                other = manner.without(failed.message) if failed.code in (400, 422) and not failed.too_long else None
                if other is None:
                    raise
            if self._manner == manner:
                self._manner = other

    def _read_choice(self, dialect: Dialect, completion: Completion, symbols: Sequence[str]) -> Choice:
        chosen = dialect.read(completion.text, symbols)
        log_probs = symbol_log_probs(completion, symbols, chosen)
        if log_probs is None and not self._said_votes:
            self._said_votes = True
            self._client.warn(f"{self.name} gives no log-probabilities; the rotations of the options vote instead")
        return Choice(log_probs, chosen, completion.usage)
