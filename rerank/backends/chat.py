"""One chat completion of an OpenAI-compatible server: the body of its request, its reply, and how it fails.

Pure functions; `rerank.backends.chat_client` sends and receives.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from rerank.mllm import Usage

# An excerpt of a reply in a reason: enough to recognise it, too short to carry a page into a results file.
EXCERPT_CHARACTERS = 40
# A wrong key, a missing permission, no such model or route: no later request can succeed.
HOPELESS_CODES = (401, 403, 404)
# Time-out, conflict and too many requests at the server: they pass, as an overload does.
PASSING_CODES = (408, 409, 429)
# These say that the server is busy; another 5xx may be how it fails over a field that it does not know.
BUSY_CODES = (*PASSING_CODES, 503, 504)
LONGEST_RETRY_AFTER_S = 30.0


class UnreadableError(ValueError):
    """A reply that cannot be read; the message is the reason, one short printable line."""


class FailedRequest(Exception):
    """A request that failed; carries nothing that the server wrote.

    Attributes:
        status: `timeout`, `unreachable` or `refused`.
        code: of HTTP, if the server replied.
        hopeless: no later request can succeed.
        retry_after_s: seconds that the server asks to wait, at most 30.
    """

    def __init__(
        self, status: str, *, code: int | None = None, hopeless: bool = False, retry_after_s: float | None = None
    ) -> None:
        """Store why it failed."""
        super().__init__(status)
        self.status, self.code, self.hopeless, self.retry_after_s = status, code, hopeless, retry_after_s

    @classmethod
    def by_code(cls, code: int, headers: Mapping[str, str]) -> FailedRequest:
        """Make the failure of an HTTP status code other than success."""
        if code in PASSING_CODES or code >= 500:
            return cls("unreachable", code=code, retry_after_s=_retry_after_s(headers.get("retry-after")))
        return cls("refused", code=code, hopeless=code in HOPELESS_CODES)


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion's first choice.

    Attributes:
        text: as generated; may be empty.
        tokens: the generated tokens with their log-probabilities as the server sent them, not checked; empty if it
            sent none.
        usage: tokens of prompt and answer.
    """

    text: str
    tokens: tuple[Mapping[str, Any], ...] = ()
    usage: Usage = field(default_factory=Usage)


def is_redirect(code: int) -> bool:
    """Tell whether an HTTP code sends the client to another address."""
    return 300 <= code < 400


def read_completion(body: bytes) -> Completion:
    """Read the body of a successful reply.

    Raises:
        UnreadableError: it is not a chat completion with a text.
    """
    start = body.lstrip()[:EXCERPT_CHARACTERS].decode("utf-8", "replace")
    if not start:
        raise UnreadableError("empty reply")
    if start.startswith("<"):
        raise UnreadableError(f"a web page, not JSON: {excerpt(start)}")
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableError(f"broken JSON: {excerpt(start)}") from None
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list):
        raise UnreadableError(f"no chat completion: {excerpt(start)}")
    if not choices:
        raise UnreadableError("empty choices")
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise UnreadableError("a choice without text")
    logprobs = choices[0].get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    tokens = tuple(token for token in content if isinstance(token, dict)) if isinstance(content, list) else ()
    return Completion(text, tokens, _usage(reply.get("usage")))


def chat_body(model: str, url: str, text: str, max_tokens: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Build the arguments of a chat completion: one user message, the image before the text, greedy.

    Args:
        model: its name at the server.
        url: of the image, `data:`.
        text: question and options.
        max_tokens: to generate, at most.
        fields: further fields of the request.
    """
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        # Lone surrogates cannot be sent.
        {"type": "text", "text": text.encode("utf-8", "replace").decode()},
    ]
    body = {
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": max_tokens,
        **fields,
    }
    # The client sends `extra_body` as it is; walking through the messages takes it a quarter of a request's time.
    return {"model": model, "messages": [], "extra_body": body}


def excerpt(text: str) -> str:
    """Return the beginning of a reply, quoted and escaped, on one line."""
    return ascii(text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 3] + "...")


def _usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, generated = (count if isinstance(count, int) and count >= 0 else 0 for count in counts)
    return Usage(prompt, generated)


def _retry_after_s(header: str | None) -> float | None:
    """Read `Retry-After`, in seconds or as a date; None if it is missing or cannot be read."""
    if header is None:
        return None
    try:
        numeric = re.fullmatch(r"[\d.]+", header)
        seconds = float(header) if numeric else parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
