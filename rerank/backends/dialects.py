"""How servers are told to answer with an option symbol only, and how such answers are read. Pure functions.

There is no portable way to constrain a token, and most servers silently ignore fields that they do not know: vLLM
ignores `grammar`, llama.cpp ignores `structured_outputs`, others ignore both. So a dialect is a pair of extra request
fields and a reader, and the backend asks a server to find out which one it obeys.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank.backends.chat import Completion
from rerank.backends.failures import UnreadableError, excerpt
from rerank.mllm import LOWEST_LOG_PROB, MOST_OPTIONS, SYMBOLS

# The number of log-probabilities that a server is asked for. vLLM lists them after the constraint, so they hold every
# symbol exactly; llama.cpp lists them before, so improbable symbols may be missing.
TOP_LOGPROBS = MOST_OPTIONS


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to restrict an answer.

    Attributes:
        name: shown in messages.
        max_tokens: that an answer needs.
    """

    name: str
    max_tokens: int

    def fields(self, symbols: Sequence[str]) -> dict[str, Any]:
        """Return the extra request fields that restrict the answer to these symbols."""
        if self is VLLM:
            # Some servers are started so that they send ids in place of tokens.
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
            return schema_fields(schema)
        return {}

    def read(self, text: str, symbols: Sequence[str]) -> int:
        """Return the position of the symbol in a reply; a constrained reply must be the symbol alone.

        Raises:
            UnreadableError: the reply holds none of the symbols, or several.
        """
        if self is PLAIN:
            return read_leniently(text, symbols)
        answer = _json_answer(text) if self is JSON_SCHEMA else text.strip()
        if answer not in symbols:
            raise UnreadableError(f"{excerpt(text)} is not one of the options, although {self.name} allows no other")
        return symbols.index(answer)


VLLM = Dialect("vLLM structured outputs", max_tokens=1)
LLAMA_CPP = Dialect("llama.cpp grammar", max_tokens=1)
# {"answer": "A"} is about seven tokens; servers may indent it.
JSON_SCHEMA = Dialect("JSON schema", max_tokens=24)
# Room for "The correct answer is B." without paying for an essay.
PLAIN = Dialect("plain prompt", max_tokens=16)
CONSTRAINED = (VLLM, LLAMA_CPP, JSON_SCHEMA)
"""In the order in which they are tried: those that answer with one token come first."""


def schema_fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request fields that ask for an answer under a JSON schema."""
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        }
    }


def unmentioned_symbol(text: str, symbols: Sequence[str]) -> str:
    """Return a symbol that a reply does not mention, if possible one of the request.

    Initials count as mentioned: with one token, `Elephant` may be cut to `E`.
    """
    mentioned = {word[0].upper() for word in re.findall(r"[^\W\d_]+", text)}
    return next((s for s in (*reversed(symbols), *SYMBOLS) if s not in mentioned), symbols[-1])


def read_leniently(text: str, symbols: Sequence[str]) -> int:
    """Find the one symbol that an unconstrained reply names: `A`, `a)`, `**A**`, `{"answer": "A"}`, `The answer is A`.

    A reply that could mean two options is refused: an unreadable answer keeps retrieval's order, a wrong one spoils it.
    So a capital `A` or `I` before a word in small letters counts as the English word, not as an option.

    Raises:
        UnreadableError: the reply names none of the symbols, or several.
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


def symbol_log_probs(completion: Completion, symbols: Sequence[str], chosen: int) -> tuple[float, ...] | None:
    """Read the symbols' log-probabilities at the token that is the chosen symbol.

    Variants of a symbol such as ` A` and `A` are added. A symbol that is not listed is at most as probable as the least
    probable one that is, and as the probability that the list leaves; it gets the smaller of these two bounds.

    Args:
        completion: with the tokens as the server sent them.
        symbols: of the options.
        chosen: position in `symbols` of the one in the completion's text.

    Returns:
        (k,) natural logarithms, renormalised over the symbols; None if the server sent none for that token.

    Raises:
        UnreadableError: a log-probability is not a number, or above 1.
    """
    token = next((token for token in completion.tokens if _bare(token) == symbols[chosen]), None)
    listed = token.get("top_logprobs") if token else None
    if not listed or not isinstance(listed, list):
        return None
    # Keyed by text, for the generated token is commonly listed twice: by itself and among the best.
    values = {
        str(entry.get("token")): (_bare(entry), _log_prob(entry.get("logprob")))
        for entry in [token, *listed]
        if isinstance(entry, dict)
    }
    left = 1 - math.fsum(math.exp(value) for _, value in values.values())
    lowest = min(min(value for _, value in values.values()), math.log(max(left, 1e-9)))
    variants = [[value for bare, value in values.values() if bare == symbol] or [lowest] for symbol in symbols]
    sums = [_log_sum_exp(logs) for logs in variants]
    total = _log_sum_exp(sums)
    return tuple(value - total for value in sums)


def _json_answer(text: str) -> str | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    answer = content.get("answer") if isinstance(content, dict) else None
    return answer if isinstance(answer, str) else None


def _bare(token: Mapping[str, Any]) -> str:
    """Return a token's text without the spaces and quotes that tokenizers join to a letter."""
    return str(token.get("token")).strip(" \t\r\n\"'▁Ġ")


def _log_prob(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf <= value <= 1:
        raise UnreadableError(f"log-probability {excerpt(str(value))}")
    # Rounding makes tiny positive values, and a masked token may be minus infinity. JSON integers may be too long for a
    # float, so the value is bounded first.
    return float(min(max(value, LOWEST_LOG_PROB), 0.0))


def _log_sum_exp(values: Sequence[float]) -> float:
    peak = max(values)
    return peak + math.log(math.fsum(math.exp(value - peak) for value in values))
