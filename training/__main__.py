"""The commands of this package: `train`, `annotate`, `inspect`, and `rank-data`, whose data teaches an MLLM to rank.

They join the command line through the entry-point group `recognizer.commands`, so `recognizer` works without this
package; `python -m training` offers them alone.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import main
from recognizer.cli.options import (
    OUTPUT,
    SEARCH,
    SETTINGS,
    DeviceOption,
    LabelledArgument,
    MemoryOption,
    PrecisionOption,
    SeedOption,
    SetOption,
)
from recognizer.console import note, progress_bar, show, table
from training.annotation.command import annotate
from training.inspecting import inspect


class AnswerMode(StrEnum):
    """How an MLLM answers."""

    list = "list"
    choice = "choice"


def train(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings; see configs/train.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default: runs/NAME-OF-THE-CONFIG.", rich_help_panel=OUTPUT),
    ] = None,
    device: DeviceOption = "auto",
    overrides: SetOption = None,
) -> None:
    """Train an encoder; run the same command again to resume.

    With several processes: torchrun --nproc-per-node 8 -m recognizer train CONFIG

    Example: recognizer train configs/train/starter.yaml --output runs/starter --set optimizer.lr=1e-3
    """
    from training.run import train_from_file

    result = train_from_file(config, overrides or [], output=output, device=device)
    if os.environ.get("RANK", "0") == "0":
        if result.metrics:
            show(result.table())
        show(f"{counted(result.steps, 'step')}; encoder: {result.encoder}")


def rank_data(
    folder: LabelledArgument,
    memory: MemoryOption,
    output: Annotated[Path, typer.Option(help="Folder for the files.", rich_help_panel=OUTPUT)],
    mode: Annotated[
        AnswerMode,
        typer.Option(
            help="Form of the answer: list: a sorted list of names; choice: one letter.", rich_help_panel=OUTPUT
        ),
    ] = AnswerMode.list,
    k: Annotated[int, typer.Option(help="Options per question.", rich_help_panel=OUTPUT)] = 5,
    neighbours: Annotated[
        int,
        typer.Option(help="Nearest categories, over which windows of k slide.", rich_help_panel=SEARCH),
    ] = 20,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    held_out: Annotated[
        float, typer.Option(help="Share of the categories in the held-out part.", rich_help_panel=SETTINGS)
    ] = 0.2,
    seed: SeedOption = 0,
) -> None:
    """Write questions with answers that teach an MLLM to rank, for RAR's code, ms-swift, LLaMA-Factory and TRL.

    Example: recognizer rank-data labelled --memory birds.memory --output questions
    """
    from memory import Memory
    from recognizer.evaluation.labelled import match_labels, read_labelled
    from recognizer.recognizer import Recognizer
    from training.ranking.questions import write_ranking_data

    opened = Memory.open(memory)
    labelled = match_labels(read_labelled(folder), opened.vectors.categories)
    recognizer = Recognizer.open(opened, device=device, precision=precision)
    with progress_bar(len(labelled.items), "img", "rank-data") as advance:
        report = write_ranking_data(
            recognizer,
            labelled,
            output,
            k=k,
            neighbours=neighbours,
            held_out=held_out,
            mode=mode.value,
            seed=seed,
            progress=advance,
        )
    rows = [[part, str(report.categories[part]), str(report.groups[part])] for part in report.groups]
    show(table(["part", "categories", "questions"], rows))
    for reason, number in {**report.skipped_images, **report.skipped_groups}.items():
        show(f"{number} left out: {reason}")
    empty = [part for part, questions in report.groups.items() if not questions and report.categories[part]]
    if empty:
        note(f"no questions in {' and '.join(empty)}: choose a smaller --k, more images, or another --held-out")
    show(f"files: {output.resolve()}")


_PANEL = "Training"  # of `recognizer --help`


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command(rich_help_panel=_PANEL)(train)
    app.command(rich_help_panel=_PANEL)(annotate)
    app.command(rich_help_panel=_PANEL)(inspect)
    app.command("rank-data", rich_help_panel=_PANEL)(rank_data)


if __name__ == "__main__":
    alone = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    register(alone)
    main(alone)
