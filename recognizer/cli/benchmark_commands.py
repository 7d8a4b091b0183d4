"""The command `benchmark`: a sub-command for each protocol, so that `--help` shows a protocol's own options alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.chosen_encoder import load_chosen_encoder
from recognizer.cli.options import INPUT, OUTPUT
from recognizer.cli.stored_features import opened_features
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
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the table as JSON to this file.", rich_help_panel=OUTPUT)
]


@contextmanager
def opened_bench(
    *,
    memory: Path | None,
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
    with opened_features(features or settings.run.features, encoder, settings.images) as stored:
        yield Bench(encoder, settings, stored)


def finish(table: BenchmarkTable, json_file: Path | None) -> None:
    """Show the table of a protocol, and write it as JSON where a file is named."""
    show(*table.lines())
    if json_file is not None:
        table.write_json(json_file)
