"""A reranker behind the `/rerank` or `/score` endpoint of a server, as vLLM serves Qwen3-VL-Reranker.

The image is the query and the candidates are the documents, so one request holds an image once with all its
candidates. Each candidate is judged by itself, so there are no rotations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rerank.backends.chat import image_part, read_json, read_usage, sendable
from rerank.backends.failures import FailedRequest, UnreadableError, excerpt
from rerank.backends.image_requests import ImageRequests
from rerank.mllm import Failure, ScoreRequest, Scores

# Goes into the chat template of rerankers that have a place for it; others ignore it.
INSTRUCTION = "Find the category that the image shows."
# Without its chat template Qwen3-VL-Reranker scores everything near 0.5 (vLLM issue 33885).
FLAT = 0.02
# Fewer scores may lie near 0.5 by chance.
FEWEST_FLAT = 5


class RerankServer:
    """Scores texts against images, several images at a time; fails as `ImageRequests` does.

    `/rerank` is asked first, for it is the more common one, and `/score` where the server does not have it.

    Attributes:
        name: model and address.
        identity: address, model and how images are encoded.
    """

    def __init__(self, requests: ImageRequests) -> None:
        """Take what sends to one model; it is closed with this object."""
        self._requests = requests
        self.name = requests.name
        self.identity = f"reranker {requests.identity}"
        self.parallel = requests.parallel
        self._client = requests.client
        self._has_rerank = True
        self._scores_seen = 0
        self._all_flat = True

    def __repr__(self) -> str:
        """Name the model and the address; never the key."""
        return f"RerankServer({self.name})"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores | Failure]:
        """Answer each request with one score per text."""
        found = self._requests.send_all(requests, self._ask)
        self._warn_of_flat_scores([value for scores in found if isinstance(scores, Scores) for value in scores.values])
        return found

    def close(self) -> None:
        """Cancel the requests in flight (their callers get a RuntimeError), close connections, end the thread."""
        self._requests.close()

    async def _ask(self, request: ScoreRequest, url: str) -> Scores:
        query, documents = {"content": [image_part(url)]}, [sendable(text) for text in request.texts]
        common = {"model": self._requests.model, "documents": documents, "instruction": INSTRUCTION}
        if self._has_rerank:
            try:
                return await self._post("/rerank", {"query": query, **common}, _read_rerank, probing=True)
            except FailedRequest as failed:
                if failed.code not in (404, 405, 501):
                    raise
                missing = failed
        try:
            scores = await self._post("/score", {"queries": query, **common}, _read_score, probing=self._has_rerank)
        except FailedRequest as failed:
            if failed.code in (404, 405, 501) and self._has_rerank:
                raise FailedRequest(
                    "refused",
                    code=missing.code,
                    hopeless=True,
                    message=missing.message or "the server has neither /rerank nor /score",
                ) from None
            raise
        self._has_rerank = False
        return scores

    async def _post(
        self, path: str, body: dict[str, Any], read: Callable[[Any, int], Scores], *, probing: bool
    ) -> Scores:
        reply = read_json(await self._client.post(path, body, probing=probing))
        return read(reply, len(body["documents"]))

    def _warn_of_flat_scores(self, values: Sequence[float]) -> None:
        self._all_flat = self._all_flat and all(abs(value - 0.5) <= FLAT for value in values)
        before, self._scores_seen = self._scores_seen, self._scores_seen + len(values)
        if self._all_flat and before < FEWEST_FLAT <= self._scores_seen:
            self._client.warn(
                f"all scores of {self.name} lie within {FLAT} of 0.5, so they order nothing; is the reranker served "
                "without its chat template? vLLM takes it as --chat-template qwen3_vl_reranker.jinja"
            )


def _read_rerank(reply: Any, count: int) -> Scores:  # noqa: ANN401  any JSON value
    return _read(reply, "results", "relevance_score", count)


def _read_score(reply: Any, count: int) -> Scores:  # noqa: ANN401  any JSON value
    return _read(reply, "data", "score", count)


def _read(reply: Any, listed: str, key: str, count: int) -> Scores:  # noqa: ANN401  any JSON value
    """Read one score per document; the entries come in any order, each with the index of its document."""
    entries = reply.get(listed) if isinstance(reply, dict) else None
    if not isinstance(entries, list):
        raise UnreadableError(f"no {listed}: {excerpt(str(reply))}")
    values: dict[int, float] = {}
    for entry in entries:
        match entry:
            case {"index": int(index), **rest} if 0 <= index < count and index not in values:
                values[index] = _probability(rest.get(key))
            case _:
                raise UnreadableError(f"no score of a document: {excerpt(str(entry))}")
    if len(values) != count:
        raise UnreadableError(f"{len(values)} scores for {count} documents")
    return Scores(tuple(values[index] for index in range(count)), read_usage(reply.get("usage")))


def _probability(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1 or math.isnan(value):
        raise UnreadableError(f"score {excerpt(str(value))} is no probability from 0 to 1")
    return float(value)
