"""Commands that write results for people: as a page to look through, and in the formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.options import HARDWARE, INPUT, OUTPUT
from recognizer.console import note, progress_bar, show


class Viewer(StrEnum):
    """Format of another tool."""

    coco = "coco"
    megadetector = "megadetector"
    labelstudio = "labelstudio"
    csv = "csv"


@app.command()
def report(
    results: Annotated[
        Path,
        typer.Argument(
            help="Results of `run` or `rerank`: JSON lines, CSV, Parquet or a folder of it; also unfinished ones."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the page; an earlier report is replaced.", rich_help_panel=OUTPUT)
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images; no file outside of it is opened. Default: the one that the run names.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="True labels: a CSV with the columns path and label, or FOLDER/LABEL/IMAGE. Adds a confusion matrix.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Results of another run of the same images: what changed, and why.", rich_help_panel=INPUT),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(help="Corrections, as `review` writes them: their rows are marked.", rich_help_panel=INPUT),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Pictures at most; those of the smallest margin.", rich_help_panel=OUTPUT)
    ] = 5_000,
    workers: Annotated[
        int, typer.Option(min=0, help="Decoding processes; 0: one per core.", rich_help_panel=HARDWARE)
    ] = 0,
) -> None:
    """Write results as a page: a folder that opens by a double click, without a server or a network.

    Example: recognizer report results.jsonl --output report

    Example: recognizer report results.jsonl --output report --truth labels.csv --against earlier.jsonl
    """
    from recognizer.report import write_report

    written = write_report(
        results,
        output,
        images=images,
        truth=truth,
        against=against,
        corrections=corrections,
        most_pictures=pictures,
        workers=workers,
        progress=lambda total: progress_bar(total, "pictures", "draw"),
    )
    for sentence in written.sentences():
        note(sentence)
    if written.truth is not None and written.truth.known:
        right, known = written.truth.right, written.truth.known
        note(f"right: {right} of {counted(known, 'compared row')} ({right / known:.1%})")
    if written.compared is not None and written.compared.both:
        both, changed, status, here, there = written.compared
        also = f"; {status} with the same label and another status" if status else ""
        note(
            f"{changed} of {counted(both, 'row')} in both runs have another label{also}; only here: {here}, only "
            f"there: {there}"
        )
    note(f"{counted(written.rows, 'row')} in the report")
    show(f"{written.index.resolve()}")


@app.command("export-results")
def export_results(
    results: Annotated[
        Path, typer.Argument(help="Results of `run` or `rerank`: JSON lines, CSV, Parquet or a folder of it.")
    ],
    output: Annotated[Path, typer.Option(help="File to write.", rich_help_panel=OUTPUT)],
    format: Annotated[
        Viewer,
        typer.Option(
            help="coco (results), megadetector (version 1.6, for Timelapse and AddaxAI), labelstudio (tasks with "
            "predictions) or csv.",
            rich_help_panel=OUTPUT,
        ),
    ],
    prefix: Annotated[
        str,
        typer.Option(
            help="labelstudio: put before each path, such as '/data/local-files/?d=photos/'.", rich_help_panel=OUTPUT
        ),
    ] = "",
) -> None:
    """Write results in the format of another tool; where it knows boxes alone, an image is a box around the whole.

    `learn` takes annotations of Label Studio back. FiftyOne needs no export: `help(recognizer.RowList)` in Python shows
    the lines that load results into it.

    Example: recognizer export-results results.jsonl --format labelstudio --output tasks.json
    """
    from recognizer.report.exports import export_results as write
    from recognizer.results.reading import open_stored

    stored = open_stored(results)
    count = write(stored, output, format.value, prefix=prefix)
    if stored.damaged:
        note(f"left out: {counted(stored.damaged, 'line')} that could not be read")
    note(f"{counted(count, 'row')} in {output}")
