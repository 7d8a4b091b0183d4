"""How servers are told to answer with an option symbol only, and how their answers are read. Pure functions.

There is no portable way to constrain a token, and most servers ignore fields they do not know without a word: vLLM
ignores `grammar`, llama.cpp ignores `structured_outputs`, others ignore both. So a dialect is a pair of extra request
fields and a reader, and the backend finds out by asking which one a server obeys.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from rerank.mllm import LOWEST_LOG_PROB, MOST_OPTIONS, SYMBOLS, Usage

# An excerpt of a reply in a reason: enough to recognise it, too short to carry a page into a results file.
EXCERPT_CHARACTERS = 40
# Log-probabilities a server is asked for; the most that OpenAI and vLLM give unless configured otherwise. vLLM lists
# them after the constraint, so they hold every symbol exactly; llama.cpp before, so improbable ones may be left out.
TOP_LOGPROBS = MOST_OPTIONS
# vLLM's floor for a token that is masked out; below it a difference means nothing.
HOPELESS_CODES = (401, 403, 404)
# Conflict and time-out at the server's side pass, as an overload does.
PASSING_CODES = (408, 409, 429)
# Of a probe: they speak of the moment. Another 5xx may be how a server fails over a field it does not know.
BUSY_CODES = (*PASSING_CODES, 503, 504)
LONGEST_RETRY_AFTER_S = 30.0


class UnreadableError(ValueError):
    """A reply that is no answer; the message is the reason, one short printable line."""


class FailedRequest(Exception):
    """A request without an answer; carries nothing of what the server wrote.

    Attributes:
        status: `timeout`, `unreachable` or `refused`.
        code: of HTTP, where the server replied.
        hopeless: no later request can succeed.
        retry_after_s: seconds the server asks to wait, at most 30.
    """

    def __init__(
        self, status: str, *, code: int | None = None, hopeless: bool = False, retry_after_s: float | None = None
    ) -> None:
        """Say what failed."""
        super().__init__(status)
        self.status, self.code, self.hopeless, self.retry_after_s = status, code, hopeless, retry_after_s

    @classmethod
    def by_code(cls, code: int, headers: Mapping[str, str]) -> FailedRequest:
        """Judge a status code other than success."""
        if code in PASSING_CODES or code >= 500:
            return cls("unreachable", code=code, retry_after_s=_retry_after_s(headers.get("retry-after")))
        return cls("refused", code=code, hopeless=code in HOPELESS_CODES)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to restrict an answer.

    Attributes:
        name: as messages show it.
        max_tokens: that an answer needs.
    """

    name: str
    max_tokens: int

    def fields(self, symbols: Sequence[str]) -> dict[str, Any]:
        """Return the extra request fields that restrict the answer to these symbols."""
        if self is VLLM:
            # Some servers are started with token ids in place of token texts; here texts are read.
            return {"structured_outputs": {"choice": list(symbols)}, "return_tokens_as_token_ids": False}
        if self is LLAMA_CPP:
            return {"grammar": "root ::= " + " | ".join(json.dumps(symbol) for symbol in symbols)}
        if self is JSON_SCHEMA:
            schema = {
                "type": "object",
                "properties": {"answer": {"type": "string", "enum": list(symbols)}},
                "required": ["answer"],
                "additionalProperties": False,
            }
            return {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": schema},
                }
            }
        return {}

    def read(self, text: str, symbols: Sequence[str]) -> int:
        """Return the position of the symbol that a reply gives; strict where the reply should have been constrained.

        Raises:
            UnreadableError: none of the symbols, or several.
        """
        if self is PLAIN:
            return read_leniently(text, symbols)
        answer = _json_answer(text) if self is JSON_SCHEMA else text.strip()
        if answer not in symbols:
            raise UnreadableError(f"{excerpt(text)} is none of the options, although {self.name} restricts to them")
        return symbols.index(answer)


VLLM = Dialect("vLLM structured outputs", max_tokens=1)
LLAMA_CPP = Dialect("llama.cpp grammar", max_tokens=1)
# {"answer": "A"} is about seven tokens; servers may indent it.
JSON_SCHEMA = Dialect("JSON schema", max_tokens=24)
# Room for "The correct answer is B." without paying for an essay.
PLAIN = Dialect("plain prompt", max_tokens=16)
CONSTRAINED = (VLLM, LLAMA_CPP, JSON_SCHEMA)
"""In the order they are tried: one exact token with log-probabilities first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A chat completion's first choice.

    Attributes:
        text: as generated; may be empty.
        tokens: the generated tokens with their log-probabilities as the server gave them, not checked; empty where it
            gave none.
        usage: tokens spent.
    """

    text: str
    tokens: tuple[Mapping[str, Any], ...] = ()
    usage: Usage = field(default_factory=Usage)


def read_answer(body: bytes) -> Answer:
    """Read the body of a successful reply.

    Raises:
        UnreadableError: it is no chat completion with a text.
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
    return Answer(text, tokens, _usage(reply.get("usage")))


def chat_body(model: str, url: str, text: str, max_tokens: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Build the arguments of a chat completion: one user message, the image before the text, greedy.

    Args:
        model: as the server calls it.
        url: of the image, `data:`.
        text: question and options.
        max_tokens: to generate at most.
        fields: extra ones.
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
    # In `extra_body` the client sends as it is what it otherwise walks through, a quarter of a request's time.
    return {"model": model, "messages": [], "extra_body": body}


def unmentioned_symbol(text: str, symbols: Sequence[str]) -> str:
    """Return a symbol that a reply does not mention, of the request's own where there is one.

    Initials count as mentioned: with one token, `Elephant` may be cut to `E`.
    """
    mentioned = {word[0].upper() for word in re.findall(r"[^\W\d_]+", text)}
    return next((s for s in (*reversed(symbols), *SYMBOLS) if s not in mentioned), symbols[-1])


def read_leniently(text: str, symbols: Sequence[str]) -> int:
    """Find the one symbol that an unconstrained reply names: `A`, `a)`, `**A**`, `{"answer": "A"}`, `The answer is A`.

    A reply that could mean two options is refused: an unreadable answer keeps retrieval's order, a wrong one spoils it.
    So a capital `A` or `I` before a word in small letters counts as the English word, not as an option.

    Raises:
        UnreadableError: none of the symbols, or several.
    """
    inner = _json_answer(text) or text
    alone = re.fullmatch(r"[\W_]*([^\W\d_])[\W_]*", inner)
    if alone and alone[1].upper() in symbols:
        return symbols.index(alone[1].upper())
    words = re.findall(r"(?<![\w'’-])(?![AI]\s+(?!or\b|and\b)[a-z])([A-Z])(?![\w'’-])", inner)
    named = {word for word in words if word in symbols}
    if len(named) != 1:
        problem = "names several options" if named else "names none of the options"
        raise UnreadableError(f"{excerpt(text)} {problem}" if text.strip() else "empty answer")
    return symbols.index(named.pop())


def symbol_log_probs(answer: Answer, symbols: Sequence[str], chosen: int) -> tuple[float, ...] | None:
    """Read the symbols' log-probabilities where the chosen one was generated.

    Variants of a symbol such as ` A` and `A` are added. A symbol that is not listed is less probable than any that is,
    and shares what probability the list leaves; the smaller of these two bounds stands for it.

    Args:
        answer: with the tokens as the server gave them.
        symbols: of the options.
        chosen: position of the symbol in the answer's text.

    Returns:
        (k,) natural logarithms, renormalised over the symbols; None where the server gave none for that token.

    Raises:
        UnreadableError: a log-probability that is no such number.
    """
    token = next((token for token in answer.tokens if _bare(token) == symbols[chosen]), None)
    listed = token.get("top_logprobs") if token else None
    if not listed or not isinstance(listed, list):
        return None
    # By text, for the generated token is commonly listed both by itself and among the best.
    values = {
        str(entry.get("token")): (_bare(entry), _log_prob(entry.get("logprob")))
        for entry in [token, *listed]
        if isinstance(entry, dict)
    }
    left = 1 - math.fsum(math.exp(value) for _, value in values.values())
    lowest = min(min(value for _, value in values.values()), math.log(max(left, 1e-9)))
    found = [[value for bare, value in values.values() if bare == symbol] or [lowest] for symbol in symbols]
    sums = [_log_sum_exp(variants) for variants in found]
    total = _log_sum_exp(sums)
    return tuple(value - total for value in sums)


def excerpt(text: str) -> str:
    """Return the beginning of a reply as a quoted, escaped line."""
    return ascii(text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 3] + "...")


def _json_answer(text: str) -> str | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    answer = found.get("answer") if isinstance(found, dict) else None
    return answer if isinstance(answer, str) else None


def _bare(token: Mapping[str, Any]) -> str:
    """Return a token's text without the spaces and quotes that tokenizers join to a letter."""
    return str(token.get("token")).strip(" \t\r\n\"'▁Ġ")


def _log_prob(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf <= value <= 1:
        raise UnreadableError(f"log-probability {excerpt(str(value))}")
    # Rounding makes tiny positive values; a masked token may come as minus infinity. An integer may be too long for a
    # float, so it is bounded first.
    return float(min(max(value, LOWEST_LOG_PROB), 0.0))


def _log_sum_exp(values: Sequence[float]) -> float:
    peak = max(values)
    return peak + math.log(math.fsum(math.exp(value - peak) for value in values))


def _usage(counts: object) -> Usage:
    if not isinstance(counts, dict):
        return Usage()
    found = [counts.get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, generated = (count if isinstance(count, int) and count >= 0 else 0 for count in found)
    return Usage(prompt, generated)


def _retry_after_s(header: str | None) -> float | None:
    """Read `Retry-After`, in seconds or as a date; None where there is none that can be read."""
    if header is None:
        return None
    try:
        seconds = float(header) if re.fullmatch(r"[\d.]+", header) else _until(header)
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()
