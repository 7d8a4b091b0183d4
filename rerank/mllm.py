"""What a multimodal LLM is asked and what it answers: the one protocol behind which every backend stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rerank.base import RerankError

if TYPE_CHECKING:
    from PIL.Image import Image

# More options than that need two rounds: servers commonly return at most 20 log-probabilities.
MOST_OPTIONS = 20
SYMBOLS = tuple("ABCDEFGHIJKLMNOPQRST")
# A symbol that a mask or rounding makes impossible counts as this improbable.
LOWEST_LOG_PROB = -100.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the backend counts them (image tokens are prompt tokens)."""

    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """One question that one option symbol answers.

    Attributes:
        image: RGB, scaled to the limit already; requests about the same image share the object.
        text: question and options; comes after the image in the one user message.
        symbols: of the options, in the order shown; at most `MOST_OPTIONS`.
    """

    image: Image
    text: str
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """One question that a written list answers; greedy decoding, at most `max_tokens` tokens."""

    image: Image
    text: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to a `ChoiceRequest`.

    Attributes:
        log_probs: natural logarithms of the symbols' probabilities, in the request's order, renormalised over the
            symbols (their exponentials sum to 1); None where the backend gives no log-probabilities.
        chosen: position of the symbol that was generated, or that is most probable.
        usage: tokens spent.
    """

    log_probs: tuple[float, ...] | None
    chosen: int
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a `ListRequest`, as written."""

    text: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Attributes:
        status: `timeout`, `unreachable`, `refused` or `unreadable: REASON`; REASON is one short printable line.
        hopeless: nothing that is asked later can succeed (a wrong key, an unknown model): leave the MLLM alone.
        hint: what may help, for the one warning when the MLLM is left alone.
    """

    status: str
    hopeless: bool = False
    hint: str = field(default="", compare=False)


class Mllm(Protocol):
    """A frozen multimodal LLM. Calls may come from several threads."""

    name: str
    """As results and messages show it."""

    identity: str
    """Everything its answers depend on: model, revision or content of its weights, dtype. Part of the cache's key."""

    parallel: int
    """How many requests it works on at a time; calls of a few times that keep it busy."""

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request with one token, restricted to its symbols; never raises for a single bad request."""
        ...

    def write(self, requests: Sequence[ListRequest]) -> list[Reply | Failure]:
        """Answer each request in free text, greedily."""
        ...

    def close(self) -> None:
        """Let go of connections, threads and weights."""
        ...


class MllmUnavailable(RerankError):
    """An MLLM cannot be had at all: package or weights missing, no such model, no such server."""
