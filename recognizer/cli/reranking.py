"""Reranking in commands: its flags become settings, and the multimodal LLM is opened for one command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from recognizer.cli.options import Rerank
from recognizer.console import note

if TYPE_CHECKING:
    from recognizer.settings import Settings
    from rerank.reranker import MllmReranker


def rerank_overrides(when: Rerank | None, model: str | None) -> list[str]:
    """Write the flags as overrides of settings; a flag that is None leaves its setting alone."""
    flags = {"when": when.value if when else None, "model": model}
    return [f"rerank.{name}={json.dumps(value)}" for name, value in flags.items() if value is not None]


@contextmanager
def opened_reranker(settings: Settings) -> Iterator[MllmReranker | None]:
    """Open the MLLM of the settings, or yield None if reranking is off; report its requests and cost on exit."""
    if settings.rerank.when == "off":
        yield None
        return
    from recognizer.reranking.open import open_reranker

    fitted_for = settings.rerank.fitted_for
    if fitted_for is not None and not settings.rerank.fitted:
        note(
            f"weight and margin of reranking were fitted for {fitted_for} in mode choice, and this is "
            f"{settings.rerank.model} in mode {settings.rerank.mode}; run `recognizer calibrate --rerank-model` for it"
        )
    if settings.rerank.when == "auto" and not settings.score.calibrated:
        note("the confidences are not calibrated, so the margin of `auto` is a guess; `recognizer calibrate` fits it")
    note(f"opening {settings.rerank.model} ...")
    reranker = open_reranker(settings.rerank, warn=note)
    try:
        yield reranker
    finally:
        reranker.close()
        note(f"rerank: {reranker.counts.summary()}")
        if reranker.counts.failed:
            note("run `recognizer rerank` on the results to repeat the failed requests")


def require_answers(reranker: MllmReranker | None, *, strict: bool = False) -> None:
    """Exit with 1 if images were asked about and none was answered; with `strict`, if any was not."""
    if reranker is None:
        return
    if reranker.counts.none_answered:
        note("WARNING: reranking failed for every image that was asked about; retrieval's order is kept")
    elif not (strict and reranker.counts.failed):
        return
    raise typer.Exit(1)
