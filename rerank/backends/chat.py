"""One chat completion of an OpenAI-compatible server: the body of its request and its reply. Pure functions.

`rerank.backends.server_client` sends and receives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rerank.backends.failures import EXCERPT_CHARACTERS, UnreadableError, excerpt
from rerank.mllm import Usage


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


@dataclass(frozen=True, slots=True)
class Manner:
    """The fields that a model may refuse: OpenAI's newer ones take neither `max_tokens` nor a temperature.

    Attributes:
        limit: field with the most tokens to generate.
        greedy: whether a temperature of 0 is asked for.
    """

    limit: str = "max_tokens"
    greedy: bool = True

    def without(self, refusal: str) -> Manner | None:
        """Return the manner without the field that a refusal names; None if it names none of these."""
        if self.limit == "max_tokens" and ("max_tokens" in refusal or "max_completion_tokens" in refusal):
            return replace(self, limit="max_completion_tokens")
        if self.greedy and "temperature" in refusal:
            return replace(self, greedy=False)
        return None

    def fields(self, max_tokens: int) -> dict[str, Any]:
        """Return the fields of a request for at most so many tokens."""
        return {self.limit: max_tokens} | ({"temperature": 0} if self.greedy else {})


def read_json(body: bytes) -> Any:  # noqa: ANN401  any JSON value
    """Parse the body of a successful reply.

    Raises:
        UnreadableError: it is not JSON.
    """
    start = body.lstrip()[:EXCERPT_CHARACTERS].decode("utf-8", "replace")
    if not start:
        raise UnreadableError("empty reply")
    if start.startswith("<"):
        raise UnreadableError(f"a web page, not JSON: {excerpt(start)}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableError(f"broken JSON: {excerpt(start)}") from None


def read_completion(body: bytes) -> Completion:
    """Read the body of a successful reply.

    Raises:
        UnreadableError: it is not a chat completion with a text.
    """
    reply = read_json(body)
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list):
        start = body.lstrip()[:EXCERPT_CHARACTERS].decode("utf-8", "replace")
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
    return Completion(text, tokens, read_usage(reply.get("usage")))


def chat_body(model: str, url: str, text: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Build the body of a chat completion: one user message, the image before the text.

    Args:
        model: its name at the server.
        url: of the image, `data:`; empty for none.
        text: question and options.
        fields: further fields of the request.
    """
    # Text alone is sent as a string: some servers of text models take no list of parts.
    content = [image_part(url), {"type": "text", "text": sendable(text)}] if url else sendable(text)
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def image_part(url: str) -> dict[str, Any]:
    """Build the part of a message that is an image."""
    return {"type": "image_url", "image_url": {"url": url}}


def sendable(text: str) -> str:
    """Replace lone surrogates, which cannot be sent."""
    return text.encode("utf-8", "replace").decode()


def read_usage(usage: object) -> Usage:
    """Read the counts of tokens; 0 for what is missing or odd."""
    if not isinstance(usage, dict):
        return Usage()
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, generated = (count if isinstance(count, int) and count >= 0 else 0 for count in counts)
    return Usage(prompt, generated)
