"""The Typer application that the commands join, and how errors are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.console import note, user_errors

if TYPE_CHECKING:
    from recognizer.settings import Settings
    from rerank.reranker import MllmReranker


INTERRUPTED = 130

app = typer.Typer(
    name="recognizer",
    help="Open-vocabulary recognition with evidence: a label file and a folder of images in, ranked categories and the "
    "regions that speak for them out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)


def show_version(wanted: bool) -> None:
    """Print the version and end, where it is asked for."""
    if wanted:
        from importlib.metadata import version

        print(version("recognizer"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options before a command; the application's own help text is shown."""


def main(app: typer.Typer = app) -> None:
    """Run the command line; errors meant for the user are one sentence on stderr and exit code 2."""
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # the application has caught the interrupt
            note("interrupted; the same command goes on from here")
        raise
    except KeyboardInterrupt:
        note("interrupted; the same command goes on from here")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        note(f"error: {error}")
        sys.exit(2)


class Index(StrEnum):
    """How a memory is searched."""

    exact = "exact"
    hnsw = "hnsw"


class Format(StrEnum):
    """How results are written."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Rerank(StrEnum):
    """Which images an MLLM is asked about."""

    off = "off"
    auto = "auto"
    always = "always"


class AnswerMode(StrEnum):
    """How an MLLM answers."""

    list = "list"
    choice = "choice"


MemoryOption = Annotated[Path, typer.Option("--memory", help="The memory's directory.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (bf16 where the hardware has it), fp32, bf16.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; see configs/run.yaml.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="One setting, such as run.top_k=10; repeatable.")]
RerankModelOption = Annotated[
    str | None,
    typer.Option(
        "--rerank-model",
        help="Multimodal LLM: a hub name, a directory, vllm:NAME, or the URL of an OpenAI-compatible server.",
    ),
]


def rerank_overrides(when: Rerank | None, model: str | None) -> list[str]:
    """Write the flags as overrides; a model without `--rerank` is used where the settings say so."""
    flags = {"when": when.value if when else None, "model": model}
    return [f"rerank.{name}={json.dumps(value)}" for name, value in flags.items() if value is not None]


@contextmanager
def opened_reranker(settings: Settings) -> Iterator[MllmReranker | None]:
    """Open the MLLM of the settings, None where reranking is off; say in the end what was asked and what it cost."""
    if settings.rerank.when == "off":
        yield None
        return
    from recognizer.reranking.open import open_reranker

    fitted_for = settings.rerank.fitted_for
    if fitted_for is not None and not settings.rerank.fitted:
        note(
            f"weight and margin of the reranking were fitted for {fitted_for} in mode choice, and this is "
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
            note("`recognizer rerank` on the results asks about the failed ones again")
