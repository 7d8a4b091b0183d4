"""The command that describes categories."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.engine_runs import check_engine
from recognizer.cli.label_files import read_label_file
from recognizer.cli.options import (
    ENCODER,
    INPUT,
    OUTPUT,
    AliasesOption,
    ConfigOption,
    DeviceOption,
    Engine,
    EngineOption,
    HeaderOption,
    KeyOption,
    LabelFormatOption,
    NameColumnOption,
    PrecisionOption,
    RayAddressOption,
    SetOption,
)
from recognizer.console import note, progress_bar, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory import Category
    from recognizer.describing.sources import Draft, Examples
    from recognizer.encoder import Encoder
    from recognizer.settings import RerankSettings
    from rerank.mllm import Mllm


class Source(StrEnum):
    """Where descriptions come from."""

    wordnet = "wordnet"
    llm = "llm"
    exemplars = "exemplars"


@app.command()
def describe(
    labels: Annotated[Path, typer.Argument(help="Label file, or a folder of images, as `build` takes it.")],
    output: Annotated[
        Path,
        typer.Option(
            help="File to write: .json ({name: [descriptions]}), or .jsonl, which keeps group, aliases and metadata.",
            rich_help_panel=OUTPUT,
        ),
    ],
    source: Annotated[
        Source,
        typer.Option(
            help="wordnet (no model); llm (a language model, asked what tells a name from those it is confused with); "
            "exemplars (the same, and it sees the category's example images).",
            rich_help_panel=INPUT,
        ),
    ] = Source.wordnet,
    mllm: Annotated[
        str | None,
        typer.Option(
            help="Language model for llm and exemplars: a hub name, a directory, vllm:NAME, or the URL of an "
            "OpenAI-compatible server.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    exemplars: Annotated[
        Path | None,
        typer.Option(
            help="Example images: DIR/NAME/IMAGE, or a CSV file with the columns path and label.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    format: LabelFormatOption = "auto",
    key: KeyOption = "name",
    header: HeaderOption = None,
    name_column: NameColumnOption = None,
    aliases: AliasesOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Encoder that chooses meanings and finds confused names. Default: as `build`.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Weights of the encoder, as `build` takes them.", rich_help_panel=ENCODER)
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    engine: EngineOption = Engine.local,
    ray_address: RayAddressOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write 3 to 10 short visible descriptions per category, for `build --descriptions`.

    For a language model add --source llm --mllm http://127.0.0.1:8000/v1. Its answers are cached: run the command again
    to go on after an interruption, or to ask again about what failed.

    Example: recognizer describe labels.csv --output descriptions.json
    """
    from recognizer.building import load_default_encoder
    from recognizer.describing.describe import check_output, described, write_described
    from recognizer.describing.sources import wordnet_drafts
    from recognizer.encoder import Encoder
    from recognizer.errors import RecognizerError
    from recognizer.reranking.open import require_writer
    from recognizer.settings import load_settings

    on_ray = check_engine(engine, ray_address)
    if on_ray and source is Source.wordnet:
        raise RecognizerError("--source wordnet asks no language model; leave --engine ray out")
    if source is Source.wordnet and mllm:
        raise RecognizerError("--source wordnet asks no language model; add --source llm, or leave --mllm out")
    if source is not Source.exemplars and exemplars:
        raise RecognizerError(
            f"--source {source.value} looks at no images; add --source exemplars, or leave --exemplars out"
        )
    categories = read_label_file(labels, format, key, header, name_column, aliases)
    check_output(output, categories)
    given = [*(overrides or []), *([f"rerank.model={json.dumps(mllm)}"] if mllm else [])]
    settings = load_settings(config, given, warn=note)
    shown = _examples(categories, exemplars) if source is Source.exemplars else None

    if source is not Source.wordnet:
        require_writer(settings.rerank, here=not on_ray)
    if model or pretrained:
        encoder = Encoder.load(model or "starter", pretrained, device=device, precision=precision)
    else:
        encoder, _ = load_default_encoder(device=device, precision=precision)
    if source is Source.wordnet:
        drafts, name = wordnet_drafts(categories, encoder), "WordNet 3.0"
    else:
        with ExitStack() as stack:
            many = None
            if on_ray:
                from recognizer.engine.mllm import mllm_on_ray

                many = stack.enter_context(mllm_on_ray(ray_address, settings.rerank, one_token=False))
            drafts, name = _written(categories, encoder, settings.rerank, shown, many)
    done = described(categories, drafts, name)
    write_described(done.categories, output)
    show(f"{output}: {next(lines := done.lines())}")
    for line in lines:
        note(line)
    if not any(category.descriptions for category in done.categories):
        raise typer.Exit(1)


def _examples(categories: Sequence[Category], folder: Path | None) -> Examples:
    from recognizer.errors import RecognizerError
    from recognizer.exemplar_files import exemplar_images
    from recognizer.images import ImageItem

    images = exemplar_images(categories, folder)
    if images is None:
        raise RecognizerError("there are no example images; give --exemplars, or a folder of images as the label file")
    found: dict[str, list[ImageItem]] = {}
    for item, row in zip(images.items, images.rows, strict=True):
        found.setdefault(categories[row].id, []).append(item)
    return found


def _written(
    categories: Sequence[Category],
    encoder: Encoder,
    settings: RerankSettings,
    examples: Examples | None,
    mllm: Mllm | None,
) -> tuple[list[Draft], str]:
    """Ask the language model, an open one or that of the settings; returns the drafts and its name."""
    from recognizer.describing.sources import written_drafts
    from recognizer.reranking.open import open_writer

    note(f"opening {settings.model} ...")
    writer = open_writer(settings, warn=note, mllm=mllm)
    try:
        with progress_bar(len(categories), "categories", "describe") as advance:
            drafts = written_drafts(
                categories,
                encoder,
                writer,
                examples=examples,
                image_size=settings.image_size,
                progress=advance,
            )
        return drafts, writer.mllm.name
    finally:
        writer.close()
        note(f"answers: {writer.counts.summary()}")
