"""The command `benchmark`: a sub-command for each protocol, so that `--help` shows a protocol's own options alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.chosen_encoder import EncoderOfMemoryOption, ModelOption, PretrainedOption, load_chosen_encoder
from recognizer.cli.options import (
    INPUT,
    OUTPUT,
    SEARCH,
    ConfigOption,
    DeviceOption,
    FeaturesOption,
    PrecisionOption,
    SeedOption,
    SetOption,
)
from recognizer.cli.stored_features import opened_features, usable_features
from recognizer.console import note, show

if TYPE_CHECKING:
    from recognizer.benchmark.bench import Bench
    from recognizer.benchmark.table import BenchmarkTable

benchmark = typer.Typer(
    no_args_is_help=True,
    help="Run a published protocol on data sets that are on this machine: a table with the encoder in every row.\n\n"
    "Nothing is downloaded; a folder of another layout is refused with the layouts that are read.\n\n"
    "Example: recognizer benchmark zero-shot --data sets",
)
app.add_typer(benchmark, name="benchmark")

DataOption = Annotated[
    Path, typer.Option("--data", help="Folder of the data, in its usual layout.", rich_help_panel=INPUT)
]
SetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sets", help="A data set to measure, such as Food101; repeatable. Default: all.", rich_help_panel=INPUT
    ),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the table as JSON to this file.", rich_help_panel=OUTPUT)
]


@contextmanager
def opened_bench(
    *,
    memory: str | None,
    model: str | None,
    pretrained: str | None,
    features: str | None,
    device: str,
    precision: str,
    config: Path | None,
    overrides: list[str] | None,
) -> Iterator[Bench]:
    """Load what a protocol measures with, as the options that all protocols share name it."""
    from recognizer.benchmark.bench import Bench
    from recognizer.settings import load_settings

    settings = load_settings(config, overrides or [], warn=note)
    encoder = load_chosen_encoder(memory, model, pretrained, device=device, precision=precision)
    with opened_features(usable_features(features, settings), encoder, settings.images) as stored:
        yield Bench(encoder, settings, stored)


def finish(table: BenchmarkTable, json_file: Path | None) -> None:
    """Show the table of a protocol, and write it as JSON where a file is named."""
    show(*table.lines())
    if json_file is not None:
        table.write_json(json_file)


@benchmark.command("zero-shot")
def zero_shot(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Folder of the data sets, in torchvision's or CoOp's layouts.", rich_help_panel=INPUT
        ),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="One more set: FOLDER/LABEL/IMAGE, or a CSV of path and label.", rich_help_panel=INPUT),
    ] = None,
    sets: SetsOption = None,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            help="per-set (CLIP's, the default), 7 or 80 (those of ImageNet), or a file of templates; repeatable.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    descriptions: Annotated[
        Path | None,
        typer.Option(
            help="Descriptions by class name, as `describe` writes them: a file, or a folder of files such as "
            "descriptors_food101.json.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(min=0, max=1, help="Weight of the whole image in GRAIN's formula.", rich_help_panel=SEARCH),
    ] = 0.5,
    json_file: JsonOption = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure accuracy without examples on CLIP's and GRAIN's data sets; a row says which are not there.

    Reads CIFAR10, CIFAR100, SUN397, StanfordCars, DTD, OxfordPets, Caltech101, Flowers102, CUB, Places365, Food101
    (GRAIN's eleven), FGVCAircraft, EuroSAT, UCF101, ImageNet and ImageNetV2.

    Example: recognizer benchmark zero-shot --data sets --model base --json zero_shot.json

    Example: recognizer benchmark zero-shot --labelled photos --templates 7
    """
    from recognizer.benchmark.zero_shot import PER_SET
    from recognizer.benchmark.zero_shot import zero_shot as measure

    with opened_bench(
        memory=memory,
        model=model,
        pretrained=pretrained,
        features=features,
        device=device,
        precision=precision,
        config=config,
        overrides=overrides,
    ) as bench:
        table = measure(
            bench,
            data,
            labelled=labelled,
            sets=sets or (),
            templates=templates or (PER_SET,),
            descriptions=descriptions,
            alpha=alpha,
            seed=seed,
        )
    finish(table, json_file)


class KarpathySplit(StrEnum):
    """A part of a captioned data set."""

    test = "test"
    val = "val"
    train = "train"


@benchmark.command()
def retrieval(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Folder with dataset_flickr30k.json or dataset_coco.json (Karpathy's splits), or such a file.",
            rich_help_panel=INPUT,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images. Default: the usual one beside the file.", rich_help_panel=INPUT),
    ] = None,
    split: Annotated[
        KarpathySplit, typer.Option(help="Part to measure on.", rich_help_panel=INPUT)
    ] = KarpathySplit.test,
    alpha: Annotated[
        float,
        typer.Option(min=0, max=1, help="Weight of the whole image where regions count.", rich_help_panel=SEARCH),
    ] = 0.5,
    json_file: JsonOption = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Measure R@1, R@5 and R@10 of images by captions and of captions by images, by whole images and with regions.

    Example: recognizer benchmark retrieval --data flickr30k --model base --json retrieval.json
    """
    from recognizer.benchmark.retrieval import retrieval as measure

    with opened_bench(
        memory=memory,
        model=model,
        pretrained=pretrained,
        features=features,
        device=device,
        precision=precision,
        config=config,
        overrides=overrides,
    ) as bench:
        table = measure(bench, data, images=images, split=split.value, alpha=alpha)
    finish(table, json_file)
