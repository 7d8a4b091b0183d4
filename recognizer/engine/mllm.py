"""A multimodal LLM that several actors of Ray hold: a copy for each GPU, or a client of a server on each machine.

It takes the place of one model in `recognizer.reranking.open`, so whoever asks need not know how many answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from recognizer.engine.cluster import EngineError, connected, engine_error, machines
from recognizer.reranking.open import open_model
from recognizer.settings import RerankSettings
from rerank.backends.opening import choose_backend
from rerank.mllm import Choice, ChoiceRequest, Failure, Mllm, Reply, WriteRequest

Request = TypeVar("Request")


class Answering:
    """The actor: opens the model that the settings name, and answers.

    Args:
        settings: with a model.
        one_token: whether answers will be single letters.
    """

    def __init__(self, settings: RerankSettings, *, one_token: bool) -> None:
        """Open the model."""
        self._mllm: Any = open_model(settings, one_token=one_token)

    def facts(self) -> tuple[str, str, int]:
        """Return name, identity and how many requests the model works on at a time."""
        return self._mllm.name, self._mllm.identity, self._mllm.parallel

    def answer(self, way: str, requests: Sequence[Any]) -> list[Any]:
        """Answer requests by `choose` or `write`."""
        answers: list[Any] = getattr(self._mllm, way)(requests)
        return answers

    def close(self) -> None:
        """Close the model."""
        self._mllm.close()


class ManyMllms(Mllm):
    """Copies of one model, which share the requests of each call.

    Args:
        ask: gives requests to a copy, by its number, and returns a handle of its answers.
        gather: waits for the answers behind handles.
        copies: how many there are.
        facts: name, identity and parallel requests of each.
    """

    def __init__(
        self,
        ask: Callable[[int, str, Sequence[Any]], Any],
        gather: Callable[[list[Any]], list[list[Any]]],
        copies: int,
        facts: tuple[str, str, int],
    ) -> None:
        """Store them."""
        self._ask, self._gather, self._copies = ask, gather, copies
        self.name, self.identity, parallel = facts
        self.parallel = copies * parallel

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request with one of its symbols."""
        return self._shared("choose", requests)

    def write(self, requests: Sequence[WriteRequest]) -> list[Reply | Failure]:
        """Answer each request in free text."""
        return self._shared("write", requests)

    def close(self) -> None:
        """Do nothing: who started the actors closes them."""

    def _shared(self, way: str, requests: Sequence[Request]) -> list[Any]:
        size = -(-len(requests) // self._copies)
        parts = [requests[start : start + size] for start in range(0, len(requests), size)] if requests else []
        handles = [self._ask(copy, way, part) for copy, part in enumerate(parts)]
        return [answer for answers in self._gather(handles) for answer in answers]


def count_copies(settings: RerankSettings, nodes: Sequence[Any]) -> tuple[int, int]:
    """Return how many copies of a model a cluster holds, and the GPUs of each.

    Args:
        settings: with a model.
        nodes: the resources of each machine.
    """
    backend, _ = choose_backend(settings.model or "", settings.backend)
    if backend in ("openai", "reranker"):  # each has `concurrency` requests in flight
        return len(nodes), 0
    gpus = settings.tensor_parallel_size if backend == "vllm" else 1
    copies = sum(int(node.get("GPU", 0)) // gpus for node in nodes)
    return (copies, gpus) if copies else (len(nodes), 0)


@contextmanager
def mllm_on_ray(address: str | None, settings: RerankSettings, *, one_token: bool) -> Iterator[ManyMllms]:
    """Start Ray or join a cluster, and open copies of a model there.

    Args:
        address: of the cluster; None: Ray is started on this machine.
        settings: with a model. An API key is read from the environment of each machine.
        one_token: whether answers will be single letters.

    Raises:
        EngineError: Ray is missing or cannot be reached, or the model cannot be opened there.
    """
    with connected(address) as ray:
        copies, gpus = count_copies(settings, machines(ray))
        kind = ray.remote(Answering).options(num_cpus=0.5, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)

        def gather(handles: list[Any]) -> list[list[Any]]:
            try:
                answers: list[list[Any]] = ray.get(handles)
            except ray.exceptions.RayError as error:
                raise engine_error(error) from error
            return answers

        actors = [kind.remote(settings, one_token=one_token) for _ in range(copies)]
        (facts, *_) = gather([actor.facts.remote() for actor in actors])
        name, identity, parallel = facts
        try:
            yield ManyMllms(
                lambda copy, way, requests: actors[copy].answer.remote(way, requests),
                gather,
                copies,
                (name, identity, parallel),
            )
        finally:
            with suppress(EngineError):  # one that died
                gather([actor.close.remote() for actor in actors])
            for actor in actors:  # or they would hold processors and GPUs for as long as anybody knows the model
                ray.kill(actor)
