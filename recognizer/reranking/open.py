"""Opening the MLLM that the settings name, and refusing settings that cannot work before any work starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.errors import RecognizerError
from recognizer.settings import RerankSettings
from rerank.mllm import MOST_OPTIONS, Mllm

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker


class RerankNotConfigured(RecognizerError):
    """Reranking is asked for and there is no MLLM."""


def require_model(settings: RerankSettings, top_k: int) -> None:
    """Refuse, before any work starts, to rerank without an MLLM or with more candidates than two rounds hold.

    Raises:
        RerankNotConfigured: one sentence with an example.
        RecognizerError: `run.top_k` is too large.
        MllmUnavailable: the model's name or address can be none.
    """
    if settings.when == "off":
        return
    if settings.model is None:
        raise RerankNotConfigured(
            f"rerank is {settings.when!r} and no multimodal LLM is named; give --rerank-model, such as "
            "--rerank-model http://127.0.0.1:8000/v1 for a server started by `vllm serve Qwen/Qwen2.5-VL-7B-Instruct`, "
            "or a directory with such a model, or say --rerank off"
        )
    if top_k > MOST_OPTIONS**2:
        raise RecognizerError(f"run.top_k={top_k} is too many to rerank; give at most {MOST_OPTIONS**2}")
    from rerank.backends.opening import check_name

    check_name(settings.model, settings.backend)


def open_reranker(
    settings: RerankSettings, *, warn: Callable[[str], None] | None = None, mllm: Mllm | None = None
) -> MllmReranker:
    """Open the MLLM that the settings name, with its cache of answers.

    Args:
        settings: with a model.
        warn: called with a sentence when the MLLM is given up or the cache fails.
        mllm: one that is open already, in place of the one named.

    Raises:
        MllmUnavailable: it cannot be had; the message says what to do.
    """
    from rerank.backends import BackendOptions, open_mllm
    from rerank.cache import AnswerCache, default_cache_path
    from rerank.reranker import MllmReranker

    names = {option.name for option in fields(BackendOptions)} - {"one_token"}
    options = BackendOptions(one_token=settings.mode == "choice", **settings.model_dump(include=names))
    opened = mllm or open_mllm(settings.model or "", options, backend=settings.backend)
    cache = None
    if settings.cache != "off":
        cache = AnswerCache(Path(settings.cache) if settings.cache else default_cache_path(), warn=warn)
    return MllmReranker(
        opened,
        mode=settings.mode,
        rotations=settings.rotations,
        weight=settings.weight,
        descriptions=settings.descriptions,
        image_size=settings.image_size,
        cache=cache,
        give_up_after=settings.give_up_after,
        warn=warn,
    )
