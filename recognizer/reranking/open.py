"""Opens the MLLM that the settings name; settings that cannot work are refused before any work starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.errors import RecognizerError
from recognizer.settings import RerankSettings
from rerank.mllm import MOST_OPTIONS, Mllm, MllmUnavailable, Scorer

if TYPE_CHECKING:
    from rerank.backends.opening import Backend
    from rerank.cache import AnswerCache
    from rerank.reranker import MllmReranker
    from rerank.written import Writer


class RerankNotConfigured(RecognizerError):
    """Reranking is on, but no MLLM is named."""


def require_model(settings: RerankSettings, top_k: int) -> None:
    """Refuse, before any work starts, to rerank without an MLLM or with more candidates than one question holds.

    Args:
        settings: when and how to ask.
        top_k: most candidates of an image.

    Raises:
        RerankNotConfigured: no MLLM is named.
        RecognizerError: there are too many candidates, or a reranker is to write a list.
        MllmUnavailable: the name or address of the model cannot be right.
    """
    if settings.when == "off":
        return
    if settings.model is None:
        raise RerankNotConfigured(
            f"rerank is {settings.when!r} and no multimodal LLM is named; give --rerank-model, such as "
            "--rerank-model http://127.0.0.1:8000/v1 for a server started by `vllm serve Qwen/Qwen2.5-VL-7B-Instruct`, "
            "or a directory with such a model, or say --rerank off"
        )
    from rerank.backends.opening import check_name

    backend, _ = check_name(settings.model, settings.backend)
    if backend == "reranker":
        if settings.mode == "list":
            raise RecognizerError("a reranker scores every candidate and writes no list; leave rerank.mode=list out")
    elif settings.mode == "choice" and top_k > MOST_OPTIONS:
        raise RecognizerError(
            f"{top_k} candidates are more than the {MOST_OPTIONS} options of one question to the MLLM; set "
            f"run.top_k={MOST_OPTIONS} or less, or rerank.mode=list"
        )


def open_reranker(
    settings: RerankSettings, *, warn: Callable[[str], None] | None = None, mllm: Mllm | Scorer | None = None
) -> MllmReranker:
    """Open the cache of answers and the MLLM that the settings name.

    Args:
        settings: with a model.
        warn: called with a sentence about failures, about what a server cannot do, or when the cache fails; it may
            hold foreign text, not escaped.
        mllm: an open one, in place of the one that the settings name.

    Raises:
        CacheFileRefused: the file of the cache holds something else.
        MllmUnavailable: the MLLM cannot be opened; the message says what to do.
    """
    from rerank.reranker import MllmReranker

    cache, opened = _open(settings, one_token=settings.mode == "choice", warn=warn, mllm=mllm)
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


def require_writer(settings: RerankSettings, *, here: bool = True) -> None:
    """Refuse, within seconds and before any work starts, settings that name no language model that can write.

    Args:
        settings: when and how to ask.
        here: whether this machine opens the model, so that its server has to answer here, or its files be here or at
            the hub.

    Raises:
        RerankNotConfigured: no model is named.
        RecognizerError: the model is a reranker, which writes nothing.
        MllmUnavailable: the name or address of the model cannot be right, or there is nothing.
    """
    backend, name = _writing_backend(settings)
    if not here:
        return
    if backend == "openai":
        open_model(settings, one_token=False).close()
    elif not Path(name).expanduser().is_dir() and (silence := _silence(name, settings.revision)):
        raise MllmUnavailable(
            f"{name!r} is no directory, its files are not in the local cache, and {silence}; give a directory with a "
            "multimodal LLM, the URL of a server, or a hub name that is in the local cache"
        )


def open_writer(
    settings: RerankSettings, *, warn: Callable[[str], None] | None = None, mllm: Mllm | Scorer | None = None
) -> Writer:
    """Open the cache of answers and the language model that the settings name, for questions that text answers.

    Args:
        settings: with a model; how answers of candidates are asked for is not used.
        warn: as in `open_reranker`.
        mllm: an open one, likewise.

    Raises:
        RerankNotConfigured, RecognizerError: as `require_writer`.
        CacheFileRefused: the file of the cache holds something else.
        MllmUnavailable: the model cannot be opened; the message says what to do.
    """
    from rerank.written import Writer

    _writing_backend(settings)
    cache, opened = _open(settings, one_token=False, warn=warn, mllm=mllm)
    if isinstance(opened, Scorer):
        opened.close()
        raise RecognizerError(f"{settings.model} scores candidates and writes nothing")
    return Writer(opened, image_size=settings.image_size, cache=cache, give_up_after=settings.give_up_after, warn=warn)


def _writing_backend(settings: RerankSettings) -> tuple[Backend, str]:
    from rerank.backends.opening import check_name

    if settings.model is None:
        raise RerankNotConfigured(
            "no language model is named; give --mllm, such as --mllm http://127.0.0.1:8000/v1 for a server started by "
            "`vllm serve Qwen/Qwen2.5-VL-7B-Instruct`, or a directory with such a model"
        )
    backend, name = check_name(settings.model, settings.backend)
    if backend == "reranker":
        raise RecognizerError(f"{settings.model} is a reranker, which scores candidates and writes nothing")
    return backend, name


def _silence(name: str, revision: str | None) -> str:
    """Say why a hub model cannot be loaded that is not in the local cache; empty where it is, or the hub answers."""
    from recognizer.encoder.open_clip.catalogue import hub_silence, is_cached

    return "" if is_cached(name, "config.json", revision) else hub_silence()


def _open(
    settings: RerankSettings,
    *,
    one_token: bool,
    warn: Callable[[str], None] | None,
    mllm: Mllm | Scorer | None = None,
) -> tuple[AnswerCache | None, Mllm | Scorer]:
    from rerank.cache import AnswerCache, default_cache_path

    cache = None
    if settings.cache != "off":  # opened first, for an MLLM takes minutes to load
        cache = AnswerCache(Path(settings.cache) if settings.cache else default_cache_path(), warn=warn)
    try:
        return cache, mllm or open_model(settings, one_token=one_token, warn=warn)
    except BaseException:
        if cache is not None:
            cache.close()
        raise


def open_model(
    settings: RerankSettings, *, one_token: bool, warn: Callable[[str], None] | None = None
) -> Mllm | Scorer:
    """Open the model that the settings name, without a cache.

    Args:
        settings: with a model.
        one_token: whether answers will be single letters.
        warn: as in `open_reranker`.

    Raises:
        MllmUnavailable: the model cannot be opened; the message says what to do.
    """
    from rerank.backends import BackendOptions, open_mllm

    names = {option.name for option in fields(BackendOptions)} - {"one_token"}
    options = BackendOptions(one_token=one_token, **settings.model_dump(include=names))
    return open_mllm(settings.model or "", options, backend=settings.backend, warn=warn)
