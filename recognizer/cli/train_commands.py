"""Commands around training."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.options import DeviceOption, SetOption


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings; see configs/train.")],
    overrides: SetOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/NAME-OF-THE-CONFIG.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train an encoder; an interrupted run goes on where it stopped. Start it with torchrun for several processes."""
    # Recognition does without the training package; only this command, at this point, looks for it.
    result = importlib.import_module("training.train").train_from_file(
        config, overrides or [], output=output, device=device
    )
    if os.environ.get("RANK", "0") == "0":
        if result.metrics:
            print(result.table())
        print(f"{result.steps} steps; encoder: {result.encoder}")
