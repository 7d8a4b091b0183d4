"""Sends chat completions to a server: one key, one address, retries within a deadline, and replies of limited size."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rerank.backends.chat import (
    Completion,
    FailedRequest,
    UnreadableError,
    chat_body,
    excerpt,
    is_redirect,
    read_completion,
)
from rerank.mllm import MllmUnavailable

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

# A server that listens accepts a connection within milliseconds; one that does not should be noticed soon.
LONGEST_CONNECT_S = 5.0
LONGEST_BACKOFF_S = 8.0
NO_KEY = "none"
# A server names models by owner and name, or by the path of a file; messages and result rows repeat the name.
LONGEST_MODEL_NAME = 256
REDIRECT_HINT = "it redirects to another address, which is not followed; if you trust that one, give it instead"


def checked_address(base_url: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        MllmUnavailable: it is not an address, or it has a password or a query, which messages would show.
    """
    try:
        parts = urlsplit(base_url)
        parts.port  # noqa: B018 - raises if the port is not a number
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MllmUnavailable(
            f"{base_url!r} is not the address of a server; it should look like http://127.0.0.1:8000/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise MllmUnavailable(
            f"the address of {parts.hostname} must have no password, query or fragment, for it is shown in messages; "
            "put the key into the environment"
        )
    return base_url.rstrip("/")


class ChatClient:
    """Asks one model of a server through the `openai` client; all methods run on one event loop.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`.
        api_key_env: environment variable that holds the key; most local servers need none.
        timeout_s: for one attempt in all, from connecting to the last byte.
        deadline_s: for one request over all attempts and waits; None for `(retries + 1) * timeout_s`.
        retries: further attempts after a broken connection, 408, 409, 429 or 5xx. A time-out is not repeated: more work
            does not help a server that is too slow.
        backoff_s: longest wait before the first retry; doubles with each, at random between half of it and all. A
            `Retry-After` of the server counts instead, up to 30 s.
        most_reply_bytes: a longer reply is not read to its end.

    Raises:
        MllmUnavailable: the `openai` package is missing, or the address or the key cannot be used.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_s: float = 60.0,
        deadline_s: float | None = None,
        retries: int = 2,
        backoff_s: float = 0.5,
        most_reply_bytes: int = 1_000_000,
    ) -> None:
        """Open the client; nothing is sent yet."""
        if retries < 0 or not timeout_s > 0 or most_reply_bytes < 1:
            raise ValueError(
                f"timeout_s {timeout_s} and most_reply_bytes {most_reply_bytes} must be positive, retries {retries} "
                "not negative"
            )
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise MllmUnavailable(
                f"asking a server needs a package that is missing ({error.name}); pip install 'openai>=3'"
            ) from None
        self.base_url = checked_address(base_url)
        self._api_key_env = api_key_env
        self._key = os.environ.get(api_key_env) or NO_KEY
        if not (self._key.isascii() and self._key.isprintable()):
            raise MllmUnavailable(f"the key in {api_key_env} has characters that no HTTP header can carry")
        self._timeout_s, self._retries, self._backoff_s = timeout_s, retries, backoff_s
        self._deadline_s = (retries + 1) * timeout_s if deadline_s is None else deadline_s
        self._most_reply_bytes = most_reply_bytes
        # The client does not wrap errors that happen while a body arrives.
        self._timeouts: tuple[type[Exception], ...] = TimeoutError, openai.APITimeoutError, httpx2.TimeoutException
        self._connection_errors: tuple[type[Exception], ...] = openai.APIConnectionError, httpx2.RequestError, OSError
        self._status_error: type[APIStatusError] = openai.APIStatusError
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._key,
            timeout=openai.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S)),
            max_retries=0,  # `ask` retries; the client's own retries know no deadline
            # Another address would get the images, which the user has shown to this one alone.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            default_headers={"Accept-Encoding": "identity"},  # a small reply cannot unpack into a huge one
        )
        self._hopeless_code: int | None = None

    async def ask(
        self,
        model: str,
        url: str,
        text: str,
        max_tokens: int,
        fields: Mapping[str, Any],
        *,
        probing: bool = False,
    ) -> Completion:
        """Send one question until it is answered, refused, or out of attempts or time.

        After a hopeless refusal nothing more is sent.

        Args:
            model: its name at the server.
            url: of the image, `data:`.
            text: question and options.
            max_tokens: to generate, at most.
            fields: further fields of the request.
            probing: the server may not know the fields: time-outs are repeated, and a hopeless refusal counts for this
                request alone, for a router may mean the field by it.

        Raises:
            FailedRequest, UnreadableError: there is no answer.
        """
        body = chat_body(model, url, text, max_tokens, fields)
        end = time.monotonic() + self._deadline_s
        attempt = 0
        while True:
            if self._hopeless_code is not None:
                raise FailedRequest.by_code(self._hopeless_code, {})
            try:
                return self._read(await self._post(body, end))
            except FailedRequest as failed:
                if failed.hopeless and not probing:
                    self._hopeless_code = failed.code
                backoff = min(self._backoff_s * 2**attempt, LONGEST_BACKOFF_S) * random.uniform(0.5, 1)
                wait = backoff if failed.retry_after_s is None else failed.retry_after_s
                again = failed.status == "unreachable" or (probing and failed.status == "timeout")
                if not again or attempt >= self._retries or time.monotonic() + wait >= end:
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    async def first_model(self) -> str:
        """Return the first model that the server lists.

        Raises:
            MllmUnavailable: there is none, or no such server.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                listed = await self._client.get("/models", cast_to=object)
        except (*self._timeouts, *self._connection_errors):
            problem = "does not answer (is a server running there?)"
        except self._status_error as error:
            hint = f" ({REDIRECT_HINT})" if is_redirect(error.status_code) else ""
            hint = f" ({self._key_hint()})" if error.status_code in (401, 403) else hint
            problem = f"refuses to list its models with HTTP {error.status_code}{hint}"
        except ValueError:
            problem = "does not list its models in JSON"
        else:
            match listed:
                case {"data": [{"id": str(first)}, *_]} if first.isprintable() and len(first) <= LONGEST_MODEL_NAME:
                    return first
                case {"data": [{"id": str(first)}, *_]}:
                    problem = f"lists a model whose name is too long or cannot be printed: {excerpt(first)}"
                case _:
                    problem = "lists no model"
        raise MllmUnavailable(
            f"{self.base_url} {problem}. Give the base URL of an OpenAI-compatible server, such as "
            "http://127.0.0.1:8000/v1, or name the model that it serves."
        )

    def hint(self, failed: FailedRequest) -> str:
        """Return the HTTP code of a failure, with what the user may check; empty if the server did not reply."""
        if failed.code is None:
            return ""
        hints = {401: self._key_hint(), 404: "is the model's name right?"}
        hint = REDIRECT_HINT if is_redirect(failed.code) else hints.get(failed.code, "")
        return f"HTTP {failed.code}; {hint}".rstrip("; ")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _key_hint(self) -> str:
        return f"is the key in {self._api_key_env} right?"

    async def _post(self, body: Mapping[str, Any], end: float) -> bytes:
        """Make one attempt; return the body of a successful reply."""
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

    def _read(self, reply: bytes) -> Completion:
        """Read a reply; if the key is in its text, or in the excerpt of a broken one, it is masked."""
        if self._key == NO_KEY or self._key.encode() not in reply:
            return read_completion(reply)
        try:
            completion = read_completion(reply)
        except UnreadableError:
            return read_completion(reply.replace(self._key.encode(), b"***"))
        return replace(completion, text=completion.text.replace(self._key, "***"))
