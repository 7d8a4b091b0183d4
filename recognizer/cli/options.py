"""Options and their choices that several commands share."""

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
    """File format of results."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Rerank(StrEnum):
    """Which images a multimodal LLM is asked about."""

    off = "off"
    auto = "auto"
    always = "always"


MemoryOption = Annotated[Path, typer.Option("--memory", help="Directory of the memory.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (bf16 where the hardware supports it), fp32 or bf16.")]
LabelledArgument = Annotated[
    Path, typer.Argument(help="Labelled images: FOLDER/LABEL/IMAGE, or a CSV file with the columns path and label.")
]
FormatOption = Annotated[Format | None, typer.Option(help="Default: inferred from the suffix of the file, else jsonl.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start over instead of resuming.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; see configs/run.yaml.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as run.top_k=10; may be repeated.")
]
RerankModelOption = Annotated[
    str | None,
    typer.Option(
        "--rerank-model",
        help="Multimodal LLM: a hub name, a directory, vllm:NAME, or the URL of an OpenAI-compatible server. "
        "A reranker: reranker:URL.",
    ),
]
