"""Options that several commands share, and the panels in which `--help` shows all options."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

INPUT = "Input"
OUTPUT = "Output"
ENCODER = "Encoder"
SEARCH = "Search"
RERANKING = "Reranking"
MODELS = "Models"
HARDWARE = "Hardware"
SETTINGS = "Settings"
SERVER = "Server"


class Index(StrEnum):
    """How a memory is searched."""

    auto = "auto"
    exact = "exact"
    hnsw = "hnsw"
    ivf = "ivf"
    lance = "lance"


INDEX_HELP = (
    "exact; approximate: ivf (lists, the fastest), hnsw (a graph), lance (larger than RAM); auto: by size and machine."
    " Default: as in the memory, or exact."
)


class Engine(StrEnum):
    """What a run computes on."""

    local = "local"
    ray = "ray"


class Hierarchy(StrEnum):
    """Where groups come from that the label file does not have."""

    wordnet = "wordnet"


class Format(StrEnum):
    """File format of results."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Unknown(StrEnum):
    """What a memory stores to tell images of none of its categories."""

    confidence = "confidence"
    negatives = "negatives"


class Rerank(StrEnum):
    """Which images a multimodal LLM is asked about."""

    off = "off"
    auto = "auto"
    always = "always"


class YesNo(StrEnum):
    """An answer."""

    yes = "yes"
    no = "no"


class Aliases(StrEnum):
    """How a name of a label file holds several names."""

    comma = "comma"


ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Folder, glob, image files, or a list of them: .txt, or .parquet with a column path. A list may name "
        "objects of a store: s3://, gs:// or az://."
    ),
]

ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Glob of files or folders to leave out, e.g. '*_small.jpg' or 'raw/**'; repeatable.",
        rich_help_panel=INPUT,
    ),
]

LabelledArgument = Annotated[
    Path, typer.Argument(help="Labelled images: FOLDER/LABEL/IMAGE, or a CSV file with the columns path and label.")
]

# A text, because an address is not a path: `Path` would make one slash of the two in s3://.
MemoryOption = Annotated[
    str,
    typer.Option(
        "--memory",
        help="Directory of the memory, which `build` makes, or its address on an object store: s3://, gs:// or "
        "az://BUCKET/PREFIX.",
        rich_help_panel=INPUT,
    ),
]

LabelFormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="auto, text, csv, tsv, json, descriptors, cupl, jsonl, parquet, coco or folder.",
        rich_help_panel=INPUT,
    ),
]
KeyOption = Annotated[
    str,
    typer.Option(
        help="name; or name,group if equal names in different groups are different categories.", rich_help_panel=INPUT
    ),
]
HeaderOption = Annotated[
    YesNo | None,
    typer.Option(
        help="Whether the first line is a header. Default: as it looks; what may be one is refused.",
        rich_help_panel=INPUT,
    ),
]
NameColumnOption = Annotated[
    str | None,
    typer.Option(help="Column or field that holds the names. Default: name.", rich_help_panel=INPUT),
]
AliasesOption = Annotated[
    Aliases | None,
    typer.Option(
        help='comma: "great white shark, white shark" is one category with two names, the first of which is shown. '
        "A column aliases (separated by semicolons) needs no option.",
        rich_help_panel=INPUT,
    ),
]

DescriptionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--descriptions",
        help="File of descriptions, such as `describe` writes (JSON or JSONL), or any other label file; joined by name "
        "(and group); repeatable.",
        rich_help_panel=INPUT,
    ),
]

PriorOption = Annotated[
    Path | None,
    typer.Option(
        help="How common the categories are: a CSV of name, prior (and group). 0 excludes a category; one without a "
        "row has the mean.",
        rich_help_panel=SEARCH,
    ),
]

ResultsOption = Annotated[str, typer.Option("--output", help="Results file, or - for stdout.", rich_help_panel=OUTPUT)]
FormatOption = Annotated[
    Format | None,
    typer.Option(help="Default: inferred from the suffix of the file, else jsonl.", rich_help_panel=OUTPUT),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Start over instead of resuming.", rich_help_panel=OUTPUT)
]
StrictOption = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 1 if any image failed, or its reranking.", rich_help_panel=OUTPUT),
]

FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Folder of stored image features, or its address (s3://, gs://, az://): images in it are not encoded "
        "again, others are added. user: a folder in your cache.",
        rich_help_panel=ENCODER,
    ),
]

RerankOption = Annotated[
    Rerank | None,
    typer.Option(
        help="Ask a multimodal LLM: off, auto (where retrieval is unsure) or always.", rich_help_panel=RERANKING
    ),
]
RerankModelOption = Annotated[
    str | None,
    typer.Option(
        "--rerank-model",
        help="Multimodal LLM: a hub name, a directory, vllm:NAME, or the URL of an OpenAI-compatible server. "
        "A reranker: reranker:URL.",
        rich_help_panel=RERANKING,
    ),
]

OnnxOption = Annotated[
    Path | None,
    typer.Option(
        "--onnx",
        help="Folder that `export-onnx` wrote from the encoder: onnxruntime computes, on the CPU in fp32. Default: "
        "torch does.",
        rich_help_panel=ENCODER,
    ),
]

EngineOption = Annotated[
    Engine,
    typer.Option(
        help="ray: Ray's workers, here or on a cluster, one for each GPU where there are some.",
        rich_help_panel=HARDWARE,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address", help="With --engine ray: a cluster. Default: Ray on this machine.", rich_help_panel=HARDWARE
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=HARDWARE)]
PrecisionOption = Annotated[
    str, typer.Option(help="auto (bf16 where the hardware supports it), fp32 or bf16.", rich_help_panel=HARDWARE)
]
RunPrecisionOption = Annotated[
    str,
    typer.Option(
        help="A number such as 0.98: the least share of right labels; images that would lower it get no label "
        "(`calibrate` fits from which confidence on). Or auto, fp32 or bf16: the arithmetic of the encoder, which goes "
        "with --set score.precision=0.98.",
        rich_help_panel=SEARCH,
    ),
]
MinConfidenceOption = Annotated[
    float | None,
    typer.Option(help="Below this confidence an image gets no label, and the status below.", rich_help_panel=SEARCH),
]
RollUpOption = Annotated[
    str | None,
    typer.Option(
        help="Confidence that a label needs, such as 0.65: where the best category lacks it, the label is the lowest "
        "group above it that has it. auto: as `calibrate` fitted.",
        rich_help_panel=SEARCH,
    ),
]
AllAboveOption = Annotated[
    float | None,
    typer.Option(
        help="List every category that a region shows with at least this probability, such as 0.5.",
        rich_help_panel=SEARCH,
    ),
]

SeedOption = Annotated[int, typer.Option(help="Seed of everything that is chosen at random.", rich_help_panel=SETTINGS)]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file with settings; see configs/run.yaml.", rich_help_panel=SETTINGS),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="One setting of the YAML file, as SECTION.NAME=VALUE, such as run.top_k=3; repeatable.",
        rich_help_panel=SETTINGS,
    ),
]


def split_precision(text: str) -> tuple[str, float | None]:
    """Return the arithmetic of the encoder, and the precision of the labels where a number is given.

    Raises:
        RecognizerError: it is neither.
    """
    from recognizer.errors import RecognizerError

    try:
        share = float(text)
    except ValueError:
        pass
    else:
        if not 0 < share < 1:
            raise RecognizerError(f"--precision {text} is no share of labels; give a number below 1, such as 0.98")
        return "auto", share
    if text not in ("auto", "fp32", "bf16"):
        from memory.errors import printable

        raise RecognizerError(
            f"--precision {printable(text)} is neither a number such as 0.98, the least share of right labels, nor "
            "auto, fp32 or bf16, the arithmetic of the encoder"
        )
    return text, None
