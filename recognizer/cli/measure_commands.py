"""Commands that measure: `eval`, `calibrate` and `doctor`."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.box_evaluation import evaluate_box_files
from recognizer.cli.options import (
    INPUT,
    OUTPUT,
    SEARCH,
    ConfigOption,
    DescriptionsOption,
    DeviceOption,
    FeaturesOption,
    LabelledArgument,
    MemoryOption,
    PrecisionOption,
    PriorOption,
    Rerank,
    RerankModelOption,
    RerankOption,
    SeedOption,
    SetOption,
)
from recognizer.cli.reranking import opened_reranker, require_answers, rerank_overrides
from recognizer.cli.stored_features import use_features
from recognizer.console import note, progress_bar, show

if TYPE_CHECKING:
    from collections.abc import Sequence


@app.command("eval")
def evaluate(
    folder: LabelledArgument,
    memory: MemoryOption,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the table as JSON to this file.", rich_help_panel=OUTPUT),
    ] = None,
    descriptions: DescriptionsOption = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Annotations of COCO or LVIS: measure on their boxes. The folder holds the images.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            help="With --boxes: recognise the boxes of these COCO detections, not the annotated ones.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    per_class: Annotated[
        Path | None,
        typer.Option(help="Write the recall of every category as CSV to this file.", rich_help_panel=OUTPUT),
    ] = None,
    prior: PriorOption = None,
    unseen: Annotated[
        bool,
        typer.Option("--unseen", help="Leave out the images that `calibrate` was fitted on.", rich_help_panel=INPUT),
    ] = False,
    rerank: RerankOption = None,
    rerank_model: RerankModelOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Measure accuracy on labelled images, adding one part of the score after another; with --rerank also reranking.

    Each file of --descriptions has rows of its own, as if it alone described the categories.

    With --boxes, measure average precision, and accuracy by the size of the object, on annotated boxes.

    Example: recognizer eval labelled --memory birds.memory --per-class recall.csv

    Example: recognizer eval photos --memory birds.memory --boxes annotations.json
    """
    from memory import Memory
    from recognizer.calibration.seen import seen_images, seen_sentence, without_seen
    from recognizer.describing.joining import read_descriptions
    from recognizer.errors import RecognizerError
    from recognizer.evaluation.evaluate import evaluate as run_evaluation
    from recognizer.evaluation.labelled import match_labels, read_labelled
    from recognizer.evaluation.report import print_lines, write_json, write_per_class
    from recognizer.memory_settings import carried_settings
    from recognizer.prior import read_prior
    from recognizer.recognizer import Recognizer
    from recognizer.reranking.open import require_model
    from recognizer.results.disk import require_writable
    from recognizer.settings import load_settings

    if boxes and (per_class or descriptions):
        raise RecognizerError("--per-class and --descriptions are for whole images; leave them or --boxes out")
    if boxes and unseen:
        raise RecognizerError("--unseen is for whole images, on which `calibrate` fits; leave it or --boxes out")
    if detections and not boxes:
        raise RecognizerError("--detections are compared with annotations; give --boxes ANNOTATIONS too")
    for file in (json_file, per_class):
        if file is not None:
            require_writable(file)
    opened = Memory.open(memory)
    given = [*(overrides or []), *rerank_overrides(rerank, rerank_model)]
    settings = load_settings(config, given, base=carried_settings(opened, warn=note), warn=note)
    require_model(settings.rerank, settings.run.top_k)
    priors = read_prior(prior, opened.vectors.categories, warn=note) if prior else None
    if boxes:
        reranker = evaluate_box_files(
            folder,
            boxes,
            detections,
            opened,
            settings,
            prior=priors,
            features=features,
            device=device,
            precision=precision,
            json_file=json_file,
        )
        require_answers(reranker)
        return
    labelled = match_labels(read_labelled(folder), opened.vectors.categories)
    seen = seen_images(opened, labelled.items)
    if unseen:
        note(f"{sum(seen)} of {len(seen)} images left out, on which `calibrate` was fitted")
        labelled = without_seen(labelled, seen)
    elif sentence := seen_sentence(seen):
        note(sentence)
    sources = {file.name: read_descriptions(file) for file in descriptions or []}
    with opened_reranker(settings) as reranker:
        recognizer = Recognizer.open(opened, settings=settings, prior=priors, device=device, precision=precision)
        with (
            use_features(recognizer, features),
            progress_bar(len(labelled.items), "images", "evaluate") as advance,
            progress_bar(len(labelled.items), "images", "rerank") if reranker else nullcontext() as ask_advance,
        ):
            evaluation = run_evaluation(
                recognizer,
                labelled,
                sources=sources,
                reranker=reranker,
                progress=advance,
                rerank_progress=ask_advance,
            )
    show(*print_lines(evaluation))
    if json_file:
        write_json(evaluation, json_file)
    if per_class:
        write_per_class(evaluation, per_class)
    require_answers(reranker)


@app.command()
def calibrate(
    folder: LabelledArgument,
    memory: MemoryOption,
    output: Annotated[
        Path | None,
        typer.Option(help="Settings file; default: a file in the memory, which `run` reads.", rich_help_panel=OUTPUT),
    ] = None,
    figures: Annotated[
        Path, typer.Option(help="Folder for the report and the diagrams.", rich_help_panel=OUTPUT)
    ] = Path("calibration"),
    roll_up_accuracy: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=0.99,
            help="With groups: share of right labels that the thresholds of `run --roll-up auto` are to give.",
            rich_help_panel=SEARCH,
        ),
    ] = 0.9,
    known: Annotated[
        bool,
        typer.Option(
            "--known",
            help="The images show categories of the memory and have no labels: fit only the threshold of the rule by "
            "negative labels (`build --unknown negatives`).",
            rich_help_panel=INPUT,
        ),
    ] = False,
    rerank_model: RerankModelOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Fit score weights, temperature and the threshold of `unknown` on half of the labelled images; report on the rest.

    With --rerank-model, also fit the weight of its answers and the margin below which `--rerank auto` asks it.

    Example: recognizer calibrate labelled --memory birds.memory

    Example: recognizer calibrate birds/ --memory birds.memory --known
    """
    from dataclasses import replace

    from memory import Memory
    from recognizer.calibration.calibrate import calibrate as run_calibration
    from recognizer.calibration.report import print_lines, write
    from recognizer.errors import RecognizerError
    from recognizer.evaluation.labelled import read_labelled
    from recognizer.memory_settings import stored_settings
    from recognizer.recognizer import Recognizer
    from recognizer.reranking.open import require_model
    from recognizer.settings import load_settings

    if known:
        if rerank_model:
            raise RecognizerError("--rerank-model needs labelled images; leave out --known")
        _calibrate_known(folder, memory, output, features, device, precision, config, overrides or [])
        return
    labelled = read_labelled(folder)
    opened = Memory.open(memory)
    given = [*(overrides or []), *rerank_overrides(Rerank.always if rerank_model else Rerank.off, rerank_model)]
    settings = load_settings(config, given, base=stored_settings(opened), warn=note)
    require_model(settings.rerank, settings.run.top_k)
    if rerank_model and settings.rerank.mode != "choice":
        raise RecognizerError("rerank.mode=list gives no probabilities to fit; calibrate with rerank.mode=choice")
    with opened_reranker(settings) as reranker, ExitStack() as stack:
        recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
        stack.enter_context(use_features(recognizer, features))
        with progress_bar(len(labelled.items), "images", "calibrate") as advance:
            calibration = run_calibration(
                recognizer, labelled, roll_up_accuracy=roll_up_accuracy, seed=seed, progress=advance
            )
        if reranker is not None:
            from recognizer.calibration.rerank import fit_reranking

            fitted = Recognizer(
                recognizer.encoder,
                opened,
                settings=settings.model_copy(update={"score": calibration.score}),
                features=recognizer.features,
            )
            try:
                with progress_bar(len(labelled.items), "images", "ask") as advance:
                    rerank = fit_reranking(fitted, calibration.fit, calibration.report, reranker, progress=advance)
                calibration = replace(calibration, rerank=rerank)
            except RecognizerError as error:
                note(f"the score is fitted, but reranking is not: {error}")
    show(*print_lines(calibration))
    written = write(calibration, recognizer, settings=output, figures=figures)
    show("", f"settings: {written}", f"figures:  {figures.resolve()}")


def _calibrate_known(
    folder: Path,
    memory: str,
    output: Path | None,
    features: str | None,
    device: str,
    precision: str,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Fit the threshold of the rule by negative labels on images of the categories without labels."""
    from memory import Memory
    from recognizer.calibration.unlabelled import calibrate_known, require_usable, write_known
    from recognizer.images import list_images, require_images
    from recognizer.memory_settings import stored_settings
    from recognizer.recognizer import Recognizer
    from recognizer.settings import load_settings

    opened = Memory.open(memory)
    settings = load_settings(config, overrides, base=stored_settings(opened), warn=note)
    listing = list_images(folder)
    require_images(listing, folder)
    require_usable(opened, settings, len(listing))
    recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
    with use_features(recognizer, features), progress_bar(len(listing), "images", "calibrate") as advance:
        fit = calibrate_known(recognizer, listing, progress=advance)
    for code, number in fit.failures.by_code().items():
        note(f"{counted(number, 'image')} could not be decoded ({code})")
    show(
        f"unknown below a known score of {fit.unknown.threshold:.3g}: of images like these {fit.images}, at most "
        f"{fit.unknown.rate:.1%} are expected to be called unknown",
        f"settings: {write_known(fit, recognizer, output)}",
    )


@app.command()
def doctor() -> None:
    """Show installed packages, devices and available weights.

    Example: recognizer doctor
    """
    from recognizer.doctor import examine

    checks = examine()
    for check in checks:
        show(f"{'ok ' if check.ok else 'BAD'}  {check.subject}: {check.finding}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
