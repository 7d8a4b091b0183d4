"""The protocols that backends implement, `Mllm` and `Scorer`: requests to a model that sees, and its replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rerank.base import RerankError

if TYPE_CHECKING:
    from PIL.Image import Image

# The most options of one question: OpenAI and vLLM return at most 20 log-probabilities by default.
MOST_OPTIONS = 20
SYMBOLS = tuple("ABCDEFGHIJKLMNOPQRST")
# The logarithm of 0 could not be averaged; vLLM gives -9999 to a token that is masked out. Such symbols get this value.
LOWEST_LOG_PROB = -100.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the backend counts them (image tokens are prompt tokens)."""

    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """A request that one option symbol answers.

    Attributes:
        image: RGB, already scaled; requests about the same image share the object.
        text: question and options; follows the image in the one user message.
        symbols: of the options, in the order shown; at most `MOST_OPTIONS`.
    """

    image: Image
    text: str
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A request that written text answers, decoded greedily.

    Attributes:
        image: RGB, already scaled; None: the text is all that is asked.
        text: follows the image in the one user message.
        max_tokens: after which the answer is cut off.
        schema: JSON schema of the answer, for backends that can enforce one; others answer as they like, so the text
            must say what is wanted, and who reads the answer must expect anything.
    """

    image: Image | None
    text: str
    max_tokens: int
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The reply to a `ChoiceRequest`.

    Attributes:
        log_probs: (k,) natural logarithms of the symbols' probabilities, in the request's order, renormalised over the
            symbols (their exponentials sum to 1); None if the backend gives no log-probabilities.
        chosen: position of the symbol that was generated, or of the most probable one.
        usage: tokens spent.
    """

    log_probs: tuple[float, ...] | None
    chosen: int
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a `WriteRequest`, as written."""

    text: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request that a score for each text answers.

    Attributes:
        image: RGB, already scaled.
        texts: each is compared with the image, by itself.
    """

    image: Image
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """The reply to a `ScoreRequest`.

    Attributes:
        values: (k,) probabilities that a text fits the image, each from 0 to 1; they need not sum to 1.
        usage: tokens spent.
    """

    values: tuple[float, ...]
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no reply.

    Attributes:
        status: `timeout`, `unreachable`, `refused` or `unreadable: REASON`; REASON is one short printable line.
        hopeless: no later request can succeed (a wrong key, an unknown model), so none should be sent.
        hint: for the user: what the server said (foreign text, not escaped), and what may help.
        code: of HTTP, where a server refused.
    """

    status: str
    hopeless: bool = False
    hint: str = field(default="", compare=False)
    code: int | None = field(default=None, compare=False)


class Model(Protocol):
    """What can be asked about images. Calls may come from several threads."""

    name: str
    """Shown in results and messages."""

    identity: str
    """All that its answers depend on: model, revision or files of its weights, dtype. Part of the cache's key."""

    parallel: int
    """How many requests it works on at a time; a call with twice as many keeps it busy."""

    def close(self) -> None:
        """Release connections, threads and weights."""
        ...


class Mllm(Model, Protocol):
    """A frozen multimodal LLM."""

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request with one of its symbols; a bad request becomes a `Failure` and raises nothing."""
        ...

    def write(self, requests: Sequence[WriteRequest]) -> list[Reply | Failure]:
        """Answer each request in free text, greedily."""
        ...


@runtime_checkable
class Scorer(Model, Protocol):
    """A reranker: a model that judges one text at a time."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """Answer each request with one score per text; a bad request becomes a `Failure` and raises nothing."""
        ...


class MllmUnavailable(RerankError):
    """The MLLM cannot be opened: its package or weights are missing, or there is no such model or server."""
