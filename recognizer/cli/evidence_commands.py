"""Commands that draw evidence: `why` and `demo`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from recognizer.allocator import imports_uncollected
from recognizer.cli.app import app
from recognizer.cli.options import (
    OUTPUT,
    ConfigOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    PriorOption,
    SetOption,
)
from recognizer.console import note, note_missing_fonts, show, table


@app.command()
def why(
    image: Annotated[Path, typer.Argument(help="One image file.")],
    memory: MemoryOption,
    output: Annotated[Path, typer.Option(help="File for the annotated picture.", rich_help_panel=OUTPUT)] = Path(
        "why.png"
    ),
    prior: PriorOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Compare the winner with the runner-up, term by term, and draw the evidence for the winner.

    Example: recognizer why photos/kingfisher.jpg --memory birds.memory
    """
    from memory import Memory
    from recognizer.images.workers import STOCK

    opened = Memory.open(memory)
    STOCK.start()  # gets ready while torch is imported
    with imports_uncollected():
        from recognizer.memory_settings import carried_settings
        from recognizer.recognizer import Recognizer
        from recognizer.settings import load_settings
        from recognizer.why import explain_image

    settings = load_settings(config, overrides or [], base=carried_settings(opened, warn=note), warn=note)
    priors = None
    if prior is not None:
        from recognizer.prior import read_prior

        priors = read_prior(prior, opened.vectors.categories, warn=note)
    recognizer = Recognizer.open(opened, settings=settings, prior=priors, device=device, precision=precision)
    explanation = explain_image(recognizer, image)
    for heading, rows in explanation.tables():
        show(table(heading, rows), "")
    explanation.draw().save(output)
    show(f"picture: {output}")
    note_missing_fonts()


@app.command()
def demo(
    output: Annotated[
        Path,
        typer.Option(help="Folder for the memory, the results, the pictures and the report.", rich_help_panel=OUTPUT),
    ] = Path("recognizer-demo"),
    open_report: Annotated[
        bool, typer.Option("--open", help="Open the report in the browser.", rich_help_panel=OUTPUT)
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Recognise the photographs that come with the package, draw the evidence, and write a report to look through.

    Example: recognizer demo --open
    """
    note("loading the starter encoder ...")
    from recognizer.demo import run_demo

    result = run_demo(output, device=device, precision=precision)
    lines = []
    for row in result.rows:
        best = row.candidates[0]
        piece = next((piece for piece in best.evidence if piece.region is not None), best.evidence[0])
        lines.append([row.path, best.category, f"{best.confidence:.2f}", f"{piece.value:.2f}  {piece.description}"])
    show(table(["file", "label", "confidence", "best evidence"], lines), "")
    show(f"results:  {result.results.resolve()}", f"pictures: {result.pictures[0].parent.resolve()}")
    note_missing_fonts()
    show(f"report:   {result.report.resolve()}")
    note(
        "the starter encoder knows mostly what ImageNet shows, so some of these labels are wrong; for your own images "
        "take another one: `recognizer build LABELS --memory M --model base` (`recognizer models` lists them)"
    )
    if open_report and not webbrowser.open(result.report.resolve().as_uri()):
        note("no browser could be started; open the report yourself")
