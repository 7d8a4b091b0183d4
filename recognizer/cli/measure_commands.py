"""Commands that measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.options import (
    ConfigOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    Rerank,
    RerankModelOption,
    SetOption,
)
from recognizer.cli.reranking import opened_reranker, rerank_overrides
from recognizer.console import progress_bar


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="FOLDER/LABEL/IMAGE, or a CSV with the columns path and label.")],
    memory: MemoryOption,
    json_file: Annotated[Path | None, typer.Option("--json", help="The table as JSON.")] = None,
    per_class: Annotated[Path | None, typer.Option(help="Recall of every category as CSV.")] = None,
    rerank: Annotated[
        Rerank | None, typer.Option(help="Add the rows of reranking by a multimodal LLM: off, auto, always.")
    ] = None,
    rerank_model: RerankModelOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Measure accuracy on labelled images, each part of the score switched on in turn."""
    from memory import Memory
    from recognizer.evaluate import evaluate as run_evaluation
    from recognizer.evaluation_report import print_lines, write_json, write_per_class
    from recognizer.labelled import match_labels, read_labelled
    from recognizer.recognizer import Recognizer
    from recognizer.reranking import require_model
    from recognizer.settings import load_settings

    opened = Memory.open(memory)
    labelled = match_labels(read_labelled(folder), opened.vectors.categories)
    given = [*(overrides or []), *rerank_overrides(rerank, rerank_model)]
    settings = load_settings(config, given, base=opened.settings)
    require_model(settings.rerank, settings.run.top_k)
    with opened_reranker(settings) as reranker:
        recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
        with progress_bar(len(labelled.items), "img", "evaluate") as advance:
            evaluation = run_evaluation(recognizer, labelled, reranker=reranker, progress=advance)
    print("\n".join(print_lines(evaluation)))
    if json_file:
        write_json(evaluation, json_file)
    if per_class:
        write_per_class(evaluation, per_class)


@app.command()
def doctor() -> None:
    """Show what is installed, which devices there are and which weights are at hand."""
    from recognizer.doctor import examine

    checks = examine()
    for check in checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.subject}: {check.finding}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
