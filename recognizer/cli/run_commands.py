"""Commands that write results: `run` and `rerank`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.box_runs import AUTO, check_box_options, find_box_plan, read_box_plan, write_box_results
from recognizer.cli.options import (
    HARDWARE,
    INPUT,
    OUTPUT,
    SEARCH,
    AllAboveOption,
    ConfigOption,
    DeviceOption,
    ExcludeOption,
    FeaturesOption,
    Format,
    FormatOption,
    ImagesArgument,
    MemoryOption,
    MinConfidenceOption,
    OverwriteOption,
    PriorOption,
    Rerank,
    RerankModelOption,
    RerankOption,
    ResultsOption,
    RollUpOption,
    RunPrecisionOption,
    SetOption,
    StrictOption,
    split_precision,
)
from recognizer.cli.reranking import opened_reranker, require_answers, rerank_overrides
from recognizer.cli.run_pictures import check_pictures, draw_run, written_rows
from recognizer.cli.stored_features import use_features
from recognizer.console import note, progress_bar

if TYPE_CHECKING:
    from recognizer.boxes.plan import BoxPlan
    from recognizer.images import ImageItem
    from recognizer.recognizer import Recognizer
    from recognizer.results import Row, RowSink, RunCounts, RunSetup
    from recognizer.results.ledger import CurrentStamp
    from recognizer.results.run_files import OutputFormat
    from recognizer.run import Recognize
    from recognizer.settings import Settings
    from rerank.reranker import MllmReranker


@app.command()
def run(
    context: typer.Context,
    images: ImagesArgument,
    memory: MemoryOption,
    output: ResultsOption,
    format: FormatOption = None,
    overwrite: OverwriteOption = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Repeat failed images.", rich_help_panel=OUTPUT)
    ] = False,
    keep_missing: Annotated[
        bool,
        typer.Option("--keep-missing", help="Keep the rows of earlier images that are gone.", rich_help_panel=OUTPUT),
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of the evidence in each image.", rich_help_panel=OUTPUT),
    ] = None,
    absolute_paths: Annotated[
        bool, typer.Option("--absolute-paths", help="Write absolute paths of images.", rich_help_panel=OUTPUT)
    ] = False,
    strict: StrictOption = False,
    exclude: ExcludeOption = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="Recognise boxes instead of whole images: COCO, LVIS, MegaDetector or SpeciesNet JSON, a folder of "
            "YOLO text files, or a CSV of path,x1,y1,x2,y2. auto: the objects that the encoder finds.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    coco: Annotated[
        Path | None, typer.Option(help="With --boxes: write COCO results to this file.", rich_help_panel=OUTPUT)
    ] = None,
    megadetector: Annotated[
        Path | None,
        typer.Option(
            help="With --boxes: write MegaDetector's JSON with classifications to this file.", rich_help_panel=OUTPUT
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Candidates per image.", rich_help_panel=SEARCH)] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="Only these categories: a name, or a file of names; repeatable.", rich_help_panel=SEARCH
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="All categories but these: as --only.", rich_help_panel=SEARCH),
    ] = None,
    prior: PriorOption = None,
    min_confidence: MinConfidenceOption = None,
    roll_up: RollUpOption = None,
    all_above: AllAboveOption = None,
    rerank: RerankOption = None,
    rerank_model: RerankModelOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per forward pass.", rich_help_panel=HARDWARE)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Decoding processes; 0: one per core.", rich_help_panel=HARDWARE)
    ] = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: RunPrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Recognise a folder of images; an interrupted run resumes where it stopped.

    Example: recognizer run photos --memory birds.memory --output results.jsonl

    Example: recognizer run photos --memory birds.memory --output table.csv --pictures evidence --top-k 3

    Example: recognizer run photos --memory birds.memory --output objects.jsonl --boxes auto --coco objects.json
    """
    from functools import cache, partial

    from memory import Memory
    from recognizer.hierarchy.rule import label_rule
    from recognizer.images import list_images, require_images
    from recognizer.memory_settings import carried_settings
    from recognizer.prior import read_prior
    from recognizer.reranking.open import require_model
    from recognizer.results import check_output, restamp_file
    from recognizer.selection import select_categories
    from recognizer.settings import load_settings

    check_output(output, _format_name(format))
    check_box_options(boxes, output, coco, megadetector)
    if pictures is not None:
        check_pictures(pictures, images, output)
    opened = Memory.open(memory)
    precision, of_labels = split_precision(precision)
    flags = {
        "run.top_k": top_k,
        "run.batch_size": batch_size,
        "run.workers": workers,
        "run.all_above": all_above,
        "score.min_confidence": min_confidence,
        "score.roll_up": roll_up,
        "score.precision": of_labels,
    }
    flag_overrides = [f"{name}={value}" for name, value in flags.items() if value is not None]
    flag_overrides += rerank_overrides(rerank, rerank_model)
    base = carried_settings(opened, warn=note)
    settings = load_settings(config, [*(overrides or []), *flag_overrides], base=base, warn=note)
    require_model(settings.rerank, settings.run.top_k)
    if rerank_model and settings.rerank.when == "off":
        note("the multimodal LLM is not used, because reranking is off; add --rerank auto or --rerank always")
    selection = select_categories(opened, only or [], without or [])
    competing = opened.info().categories if selection is None else len(selection.rows)
    priors = read_prior(prior, opened.vectors.categories, warn=note) if prior else None
    if priors is not None:
        competing = int(priors.competing(None if selection is None else selection.rows).sum())
    if competing == 1:
        note("WARNING: only one category competes, so every image gets it with confidence 1.0; add others to compare")
    if selection is not None and settings.score.calibrated:
        note("the calibration was fitted on all categories; among some of them confidences are not calibrated")
    if priors is not None and settings.score.calibrated:
        note("the calibration was fitted without a prior; with one confidences are not calibrated")
    label_rule(settings.score if selection is None and priors is None else settings.score.uncalibrated())
    if of_labels is not None and settings.rerank.when != "off":
        note("the precision was calibrated for retrieval; after reranking it is not bounded")
    listing = list_images(images, exclude=exclude or [])
    if absolute_paths:
        listing = listing.with_absolute_keys()
    for problem in listing.problems:
        note(f"left out: {problem.path}: {problem.reason}")
    require_images(listing, images)
    from recognizer.run import recognize_into, recognized_images, run_setup

    setup = run_setup(
        opened,
        settings,
        listing,
        device=device,
        precision=precision,
        selection=selection,
        prior=priors,
        boxes=None if boxes is None else "auto" if boxes == AUTO else "file",
    )

    @cache
    def open_recognizer() -> Recognizer:
        from recognizer.images.workers import STOCK
        from recognizer.recognizer import Recognizer

        STOCK.start()  # gets ready while the weights load
        rows = None if selection is None else selection.rows
        recognizer = Recognizer.open(
            opened, settings=settings, only=rows, prior=priors, device=device, precision=precision
        )
        if recognizer.negatives is not None and (advice := recognizer.negatives.advice()):
            note(advice)
        return recognizer

    kept = {"overwrite": overwrite, "retry_errors": retry_errors, "keep_missing": keep_missing}
    plan, unit, keys = None, "images", listing.keys
    items: Sequence[ImageItem] = listing
    recognize: Recognize = recognized_images
    scratch = None
    if boxes is not None:
        from recognizer.boxes.rows import recognized_boxes

        if boxes == AUTO:
            scratch = context.with_resource(tempfile.TemporaryDirectory())
            plan = find_box_plan(listing, setup, output, open_recognizer, features, scratch, **kept)
        else:
            plan = read_box_plan(boxes, listing, settings.boxes)
        unit, keys, items, recognize = "rows", plan.keys, plan.items, recognized_boxes
    with _opened_output(
        output,
        keys,
        settings,
        setup,
        format,
        unit=unit,
        **kept,
        current_stamp=lambda number, before: restamp_file(items[number].path, before),
    ) as (sink, reranker):
        if sink.done_rows < len(items):
            recognizer = open_recognizer()
            with use_features(recognizer, features, retry_errors=retry_errors, scratch=scratch):
                batches = recognize_into(recognizer, items, sink, reranker=reranker, recognize=recognize)
                _show_progress(batches, sink, len(items), "recognise", unit=unit)
        counts = sink.finish()
        written = partial(written_rows, output, _format_name(format))
        if pictures is not None:
            draw_run(pictures, written, listing, len(items), settings)
        if plan is not None:
            write_box_results(written, plan, opened, coco=coco, megadetector=megadetector)
    note(f"{_outcome(counts, plan)}; results {_where(output)}")
    for line in listing.left_out:
        note(line)
    too_many = counts.failed_share > settings.run.max_failed
    if too_many:
        note(
            f"WARNING: {counts.failed} of {counts.total} {unit} failed, more than the share of "
            f"{settings.run.max_failed:g} that run.max_failed accepts; the rows with status error say why"
        )
    if too_many or (counts.failed and strict):
        raise typer.Exit(1)
    require_answers(reranker, strict=strict)


@app.command("rerank")
def rerank_results(
    results: Annotated[Path, typer.Argument(help="Results of `run`, in JSON lines.")],
    output: ResultsOption,
    format: FormatOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, if it was moved after the run.", rich_help_panel=INPUT),
    ] = None,
    rerank: RerankOption = None,
    rerank_model: RerankModelOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Let a multimodal LLM order the candidates of earlier results; no image is encoded again.

    Without --rerank, and with none in --config, it is asked about every image.

    Example: recognizer rerank results.jsonl --output final.jsonl --rerank-model http://127.0.0.1:8000/v1
    """
    from recognizer.errors import RecognizerError
    from recognizer.hierarchy.rule import label_rule
    from recognizer.reranking.file import (
        earlier_settings,
        is_ranked,
        read_results,
        rerank_into,
        rerank_setup,
        stamp_row,
    )
    from recognizer.reranking.open import require_model
    from recognizer.results import check_output
    from recognizer.settings import load_settings

    check_output(output, _format_name(format))
    if output != "-" and Path(output).resolve() == results.resolve():
        raise RecognizerError(f"{results} cannot be its own output; name another file")
    earlier = read_results(results, images)
    base = earlier_settings(earlier, warn=note)
    settings = load_settings(
        config, [*(overrides or []), *rerank_overrides(rerank, rerank_model)], base=base, warn=note
    )
    if settings.rerank.when == "off":
        if rerank is Rerank.off:
            raise RecognizerError("--rerank off leaves nothing to do; use auto or always")
        always = settings.rerank.model_copy(update={"when": "always"})
        settings = settings.model_copy(update={"rerank": always})
    label_rule(settings.score)
    require_model(settings.rerank, max((len(row.candidates) for row in earlier.results), default=0))
    ranked = sum(map(is_ranked, earlier.rows))
    if ranked:
        note(f"already reranked, and unchanged: {counted(ranked, 'row')}")
    keys = [row.key for row in earlier.rows]
    setup = rerank_setup(earlier, settings, results)
    with _opened_output(
        output,
        keys,
        settings,
        setup,
        format,
        overwrite=overwrite,
        current_stamp=lambda number, _: stamp_row(earlier.rows[number]),
    ) as (sink, reranker):
        if reranker is not None and sink.done_rows < len(keys):
            _show_progress(rerank_into(earlier, settings, sink, reranker), sink, len(keys), "rerank")
        sink.finish()
    note(f"{counted(len(keys), 'row')}; results {_where(output)}")
    require_answers(reranker, strict=strict)


def _where(output: str) -> str:
    return "on stdout" if output == "-" else f"in {output}"


def _outcome(counts: RunCounts, plan: BoxPlan | None = None) -> str:
    """Say how many images or boxes were recognised, and how many failed, with their share and the reasons."""
    failures = f" ({counts.failed_share:.1%}: {counts.reasons})" if counts.failed else ""
    if plan is None:
        done = f"{counted(counts.ok, 'image')} recognised"
    else:
        empty = len(plan.items) - plan.boxes
        done = f"{counted(counts.ok - empty, 'box', 'boxes')} recognised"
        done += f", {counted(empty, 'image')} without a box" if empty else ""
    return f"{done}, {counts.failed} failed{failures}"


@contextmanager
def _opened_output(
    output: str,
    keys: Sequence[str],
    settings: Settings,
    setup: RunSetup,
    format: Format | None,
    *,
    unit: str = "images",
    overwrite: bool,
    retry_errors: bool = False,
    keep_missing: bool = False,
    current_stamp: CurrentStamp | None = None,
) -> Iterator[tuple[RowSink, MllmReranker | None]]:
    """Open the MLLM, if reranking is on and work is left, and then the output.

    The MLLM comes first: if it cannot be opened, an output that would be overwritten stays as it is.
    """
    from recognizer.results import is_finished, open_results

    seems_done = not (overwrite or retry_errors) and is_finished(output, _format_name(format))
    with ExitStack() as stack:
        reranker = None if seems_done else stack.enter_context(opened_reranker(settings))
        sink = stack.enter_context(
            open_results(
                output,
                keys=keys,
                setup=setup,
                output_format=_format_name(format),
                overwrite=overwrite,
                retry_errors=retry_errors,
                keep_missing=keep_missing,
                current_stamp=current_stamp,
                warn=note,
            )
        )
        if sink.done_rows:
            note(f"{sink.done_rows} of {len(keys)} {unit} are already done")
        if seems_done and sink.done_rows < len(keys):  # damaged rows, changed images, or more images than before
            reranker = stack.enter_context(opened_reranker(settings))
        yield sink, reranker


def _show_progress(
    batches: Iterable[Sequence[Row]], sink: RowSink, total: int, description: str, *, unit: str = "images"
) -> None:
    """Work through the batches with a progress bar that starts at the rows of earlier runs."""
    from recognizer.results import ErrorRow

    with progress_bar(total, unit, description, done=sink.done_rows) as advance:
        for rows in batches:
            advance(len(rows), failed=sum(isinstance(row, ErrorRow) for row in rows))


def _format_name(format: Format | None) -> OutputFormat | None:
    return format.value if format else None
