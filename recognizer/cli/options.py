"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
