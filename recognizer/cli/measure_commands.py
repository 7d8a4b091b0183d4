"""Commands that measure."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from recognizer.cli.app import (
    ConfigOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    Rerank,
    RerankModelOption,
    SetOption,
    app,
    opened_reranker,
    rerank_overrides,
)
from recognizer.console import note, progress_bar


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
    from recognizer.evaluation.evaluate import evaluate as run_evaluation
    from recognizer.evaluation.labelled import match_labels, read_labelled
    from recognizer.evaluation.report import print_lines, write_json, write_per_class
    from recognizer.memory_settings import carried_settings
    from recognizer.recognizer import Recognizer
    from recognizer.reranking.open import require_model
    from recognizer.settings import load_settings

    opened = Memory.open(memory)
    labelled = match_labels(read_labelled(folder), opened.vectors.categories)
    given = [*(overrides or []), *rerank_overrides(rerank, rerank_model)]
    settings = load_settings(config, given, base=carried_settings(opened, warn=note), warn=note)
    require_model(settings.rerank, settings.run.top_k)
    with opened_reranker(settings) as reranker:
        recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
        with (
            progress_bar(len(labelled.items), "img", "evaluate") as advance,
            progress_bar(len(labelled.items), "img", "rerank") if reranker else nullcontext() as ask_advance,
        ):
            evaluation = run_evaluation(
                recognizer, labelled, reranker=reranker, progress=advance, rerank_progress=ask_advance
            )
    print("\n".join(print_lines(evaluation)))
    if json_file:
        write_json(evaluation, json_file)
    if per_class:
        write_per_class(evaluation, per_class)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="FOLDER/LABEL/IMAGE, or a CSV with the columns path and label.")],
    memory: MemoryOption,
    output: Annotated[
        Path | None, typer.Option(help="Settings file; default: in the memory, where `run` finds it.")
    ] = None,
    figures: Annotated[Path, typer.Option(help="Folder for the figures and the diagrams.")] = Path("calibration"),
    rerank_model: RerankModelOption = None,
    seed: Annotated[int, typer.Option(help="Of the halves and of the categories taken out.")] = 0,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Fit weights, temperature and the threshold of `unknown` on one half of labelled images, report on the other.

    With --rerank-model also the weight of its answers and the margin below which `--rerank auto` asks.
    """
    from dataclasses import replace

    from memory import Memory
    from recognizer.calibration.calibrate import calibrate as run_calibration
    from recognizer.calibration.report import print_lines, write
    from recognizer.errors import RecognizerError
    from recognizer.evaluation.labelled import read_labelled
    from recognizer.recognizer import Recognizer
    from recognizer.reranking.open import require_model
    from recognizer.settings import load_settings

    labelled = read_labelled(folder)
    opened = Memory.open(memory)
    given = [*(overrides or []), *rerank_overrides(Rerank.always if rerank_model else Rerank.off, rerank_model)]
    settings = load_settings(config, given, base=opened.settings, warn=note)
    require_model(settings.rerank, settings.run.top_k)
    if rerank_model and settings.rerank.mode != "choice":
        raise RecognizerError("a written list has no probabilities to fit; calibrate with rerank.mode=choice")
    with opened_reranker(settings) as reranker:
        recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
        with progress_bar(len(labelled.items), "img", "calibrate") as advance:
            calibration = run_calibration(recognizer, labelled, seed=seed, progress=advance)
        if reranker is not None:
            from recognizer.calibration.rerank import fit_reranking

            fitted = Recognizer(
                recognizer.encoder, opened, settings=settings.model_copy(update={"score": calibration.score})
            )
            try:
                with progress_bar(len(labelled.items), "img", "ask") as advance:
                    rerank = fit_reranking(fitted, calibration.fit, calibration.report, reranker, progress=advance)
                calibration = replace(calibration, rerank=rerank)
            except RecognizerError as error:
                note(f"the reranking is not fitted, the score is: {error}")
    print("\n".join(print_lines(calibration)))
    written = write(calibration, recognizer, settings=output, figures=figures)
    print(f"\nsettings: {written}\nfigures:  {figures.resolve()}")


@app.command()
def doctor() -> None:
    """Show what is installed, which devices there are and which weights are at hand."""
    from recognizer.doctor import examine

    checks = examine()
    for check in checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.subject}: {check.finding}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
