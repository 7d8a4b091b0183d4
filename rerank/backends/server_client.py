"""Sends requests to a server: one key, one address, retries within a deadline, and replies of limited size."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rerank.backends.failures import (
    FailedRequest,
    UnreadableError,
    excerpt,
    first_sentence,
    is_redirect,
    server_message,
)
from rerank.mllm import MllmUnavailable

if TYPE_CHECKING:
    from httpx2 import AsyncClient

# A server that listens accepts a connection within milliseconds; one that does not should be noticed soon.
LONGEST_CONNECT_S = 5.0
LONGEST_BACKOFF_S = 8.0
NO_KEY = "none"
# A shorter one is no secret but a placeholder, and may be a word of the protocol, which must not be masked.
SHORTEST_KEY = 8
# A server names models by owner and name, or by the path of a file; messages and result rows repeat the name.
LONGEST_MODEL_NAME = 256
# More would fill the line of a message.
MODELS_NAMED = 8
REDIRECT_HINT = "it redirects to another address, which is not followed; if you trust that one, give it instead"
# `127.0.0.1:8000` and `localhost/v1` are servers without their `http://`; a hub name has no port.
_BARE_ADDRESS = re.compile(r"[\w.-]+(?::\d+(?:/.*)?|/v1/?)")


def bare_address(name: str) -> str | None:
    """Return the address that is meant by one without its `http://`; None where it is something else."""
    if not _BARE_ADDRESS.fullmatch(name):
        return None
    host, _, path = name.rstrip("/").partition("/")
    return f"http://{host}/{path or 'v1'}"


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
            f"{base_url!r} is not the address of a server; it should look like "
            f"{bare_address(base_url) or 'http://127.0.0.1:8000/v1'}"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise MllmUnavailable(
            f"the address of {parts.hostname} must have no password, query or fragment, for it is shown in messages; "
            "put the key into the environment"
        )
    return base_url.rstrip("/")


class ServerClient:
    """Posts to one server and reads its list of models; all methods run on one event loop.

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
        warn: called with one sentence when a model was chosen among several.

    Raises:
        MllmUnavailable: the `httpx2` package is missing, or the address or the key cannot be used.
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
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Open the client; nothing is sent yet."""
        if retries < 0 or not timeout_s > 0 or most_reply_bytes < 1:
            raise ValueError(
                f"timeout_s {timeout_s} and most_reply_bytes {most_reply_bytes} must be positive, retries {retries} "
                "not negative"
            )
        try:
            import httpx2
        except ImportError as error:
            raise MllmUnavailable(
                f"asking a server needs a package that is missing ({error.name}); pip install 'httpx2>=2'"
            ) from None
        self.base_url = checked_address(base_url)
        self.warn: Callable[[str], None] = warn or (lambda _: None)
        self._api_key_env = api_key_env
        self._key = os.environ.get(api_key_env) or NO_KEY
        if not (self._key.isascii() and self._key.isprintable()):
            raise MllmUnavailable(f"the key in {api_key_env} has characters that no HTTP header can carry")
        self._timeout_s, self._retries, self._backoff_s = timeout_s, retries, backoff_s
        self._deadline_s = (retries + 1) * timeout_s if deadline_s is None else deadline_s
        self._most_reply_bytes = most_reply_bytes
        self._timeouts: tuple[type[Exception], ...] = TimeoutError, httpx2.TimeoutException
        self._connection_errors: tuple[type[Exception], ...] = httpx2.RequestError, OSError
        self._client: AsyncClient = httpx2.AsyncClient(
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S)),
            # Another address would get the images, which the user has shown to this one alone.
            follow_redirects=False,
            headers={
                "Authorization": f"Bearer {self._key}",
                "Accept-Encoding": "identity",  # a small reply cannot unpack into a huge one
            },
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),  # the callers limit themselves
        )
        self._hopeless: FailedRequest | None = None

    async def post(self, path: str, body: Mapping[str, Any], *, probing: bool = False) -> bytes:
        """Send a request until it is answered, refused, or out of attempts or time.

        After a hopeless refusal nothing more is sent.

        Args:
            path: behind the base URL, such as `/chat/completions`.
            body: a JSON object.
            probing: the server may not know the path or the fields: time-outs are repeated, and a hopeless refusal
                counts for this request alone, for a router may mean the field by it.

        Returns:
            The body of the reply, in which the key is masked.

        Raises:
            FailedRequest, UnreadableError: there is no answer.
        """
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        end = time.monotonic() + self._deadline_s
        attempt = 0
        while True:
            if self._hopeless is not None:
                raise self._hopeless
            try:
                return await self._attempt("POST", path, content, end)
            except FailedRequest as failed:
                if failed.hopeless and not probing:
                    self._hopeless = failed
                backoff = min(self._backoff_s * 2**attempt, LONGEST_BACKOFF_S) * random.uniform(0.5, 1)
                wait = backoff if failed.retry_after_s is None else failed.retry_after_s
                again = failed.status == "unreachable" or (probing and failed.status == "timeout")
                if not again or attempt >= self._retries or time.monotonic() + wait >= end:
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    async def first_model(self) -> str:
        """Return the first model that the server lists; if there are more, the warning names them.

        Raises:
            MllmUnavailable: there is none, or no such server.
        """
        try:
            listed = json.loads(await self._attempt("GET", "/models", None, time.monotonic() + self._timeout_s))
        except FailedRequest as failed:
            if failed.code is None:
                problem = "does not answer (is a server running there?)"
            else:
                problem = f"refuses to list its models with {self.hint(failed)}"
                if failed.code == 404 and not self.base_url.endswith("/v1"):
                    problem += "; the addresses of most servers end in /v1"
        except ValueError:
            problem = "does not list its models in JSON"
        else:
            match listed:
                case {"data": [{"id": str(first)}, *others]} if (
                    first.isprintable() and len(first) <= LONGEST_MODEL_NAME
                ):
                    if others:
                        self._warn_of_others(first, [model.get("id") for model in others if isinstance(model, dict)])
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
        """Return the HTTP code of a failure with the server's first sentence, and what the user may check.

        Empty if the server did not reply. The sentence is foreign text and not escaped.
        """
        if failed.code is None:
            return ""
        sentence = first_sentence(failed.message)
        said = f'HTTP {failed.code}: "{sentence}"' if sentence else f"HTTP {failed.code}"
        if failed.about_the_key:
            hint = self._key_hint()
        elif is_redirect(failed.code):
            hint = REDIRECT_HINT
        else:
            hint = "is the model's name right? a reranker is named reranker:URL" if failed.code == 404 else ""
        return f"{said}; {hint}".rstrip("; ")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _key_hint(self) -> str:
        if self._key == NO_KEY:
            return f"is a key needed? {self._api_key_env} is not set"
        return f"is the key in {self._api_key_env} right?"

    def _warn_of_others(self, first: str, others: list[object]) -> None:
        named = ", ".join(map(str, others[:MODELS_NAMED])) + (", ..." if len(others) > MODELS_NAMED else "")
        self.warn(
            f"{self.base_url} serves {len(others) + 1} models; {first} is asked, not {named}; "
            "--set rerank.served_model=NAME chooses one"
        )

    async def _attempt(self, method: str, path: str, content: bytes | None, end: float) -> bytes:
        """Make one attempt; return the body of a successful reply."""
        url, headers = self.base_url + path, {"Content-Type": "application/json"}
        reply = bytearray()
        try:
            async with (
                asyncio.timeout(min(self._timeout_s, end - time.monotonic())),
                self._client.stream(method, url, content=content, headers=headers) as response,
            ):
                async for chunk in response.aiter_bytes():
                    reply += chunk
                    if len(reply) > self._most_reply_bytes:
                        raise UnreadableError(f"more than {self._most_reply_bytes} bytes")
        except self._timeouts:
            raise FailedRequest("timeout") from None
        except self._connection_errors:
            raise FailedRequest("unreachable") from None
        body = bytes(reply)
        if len(self._key) >= SHORTEST_KEY:
            body = body.replace(self._key.encode(), b"***")
        if not response.is_success:
            raise FailedRequest.by_code(response.status_code, response.headers, server_message(body))
        return body
