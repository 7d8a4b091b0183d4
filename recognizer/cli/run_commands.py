"""The command that recognises a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory.wording import counted
from recognizer.allocator import imports_uncollected
from recognizer.cli.app import app
from recognizer.cli.box_runs import AUTO, check_box_options, find_box_plan, read_box_plan, write_box_results
from recognizer.cli.engine_runs import check_engine, check_ray_run, refuse_reranking, run_on_ray
from recognizer.cli.opened_output import format_name, opened_output, place_of, show_progress
from recognizer.cli.options import (
    HARDWARE,
    INPUT,
    OUTPUT,
    SEARCH,
    AllAboveOption,
    ConfigOption,
    DeviceOption,
    Engine,
    EngineOption,
    ExcludeOption,
    FeaturesOption,
    FormatOption,
    ImagesArgument,
    MemoryOption,
    MinConfidenceOption,
    OnnxOption,
    OverwriteOption,
    PriorOption,
    RayAddressOption,
    RerankModelOption,
    RerankOption,
    ResultsOption,
    RollUpOption,
    RunPrecisionOption,
    SetOption,
    StrictOption,
    split_precision,
)
from recognizer.cli.reranking import require_answers, rerank_overrides
from recognizer.cli.run_pictures import check_pictures, draw_run, written_rows
from recognizer.cli.stored_features import use_features
from recognizer.console import note

if TYPE_CHECKING:
    from recognizer.boxes.plan import BoxPlan
    from recognizer.images import ImageItem, Listing
    from recognizer.recognizer import Recognizer
    from recognizer.results import RunCounts
    from recognizer.run import Recognize
    from recognizer.settings import Settings


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
    onnx: OnnxOption = None,
    device: DeviceOption = "auto",
    precision: RunPrecisionOption = "auto",
    engine: EngineOption = Engine.local,
    ray_address: RayAddressOption = None,
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
    from recognizer.images.workers import STOCK
    from recognizer.memory_settings import carried_settings
    from recognizer.reranking.open import require_model
    from recognizer.results import check_output, is_finished, restamp_file
    from recognizer.selection import select_categories
    from recognizer.settings import load_settings

    on_ray = check_engine(engine, ray_address)
    if on_ray:
        check_ray_run(output, format, boxes=boxes, pictures=pictures, features=features, onnx=onnx)
    else:
        check_output(output, format_name(format))
    check_box_options(boxes, output, coco, megadetector)
    if pictures is not None:
        check_pictures(pictures, images, output)
    opened = Memory.open(memory)
    precision, of_labels = split_precision(precision)
    if onnx is not None:
        from recognizer.encoder.device import onnx_hardware

        device, precision = onnx_hardware(device, precision)
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
    if on_ray:
        refuse_reranking(settings)
    require_model(settings.rerank, settings.run.top_k)
    if rerank_model and settings.rerank.when == "off":
        note("the multimodal LLM is not used, because reranking is off; add --rerank auto or --rerank always")
    selection = select_categories(opened, only or [], without or [])
    competing = opened.info().categories if selection is None else len(selection.rows)
    priors = None
    if prior is not None:
        from recognizer.prior import read_prior

        priors = read_prior(prior, opened.vectors.categories, warn=note)
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
    if settings.score.roll_up is not None and not any(category.group for category in opened.vectors.categories):
        note("the memory has no groups, so labels cannot be rolled up; `build --hierarchy wordnet` finds some")
    listing = list_images(images, exclude=exclude or [])
    if absolute_paths:
        listing = listing.with_absolute_keys()
    for problem in listing.problems:
        note(f"left out: {problem.path}: {problem.reason}")
    require_images(listing, images)
    if not on_ray and (overwrite or not is_finished(output, format_name(format))):
        STOCK.start()  # gets ready while torch is imported
    with imports_uncollected():
        from recognizer.run import recognize_into, recognized_images, run_setup

    setup = run_setup(
        opened,
        settings,
        listing,
        device=device if ray_address is None else "cpu",  # a cluster may have what this machine lacks
        precision=precision,
        selection=selection,
        prior=priors,
        boxes=None if boxes is None else "auto" if boxes == AUTO else "file",
    )

    @cache
    def open_recognizer() -> Recognizer:
        from recognizer.recognizer import Recognizer

        rows = None if selection is None else selection.rows
        recognizer = Recognizer.open(
            opened, settings=settings, only=rows, prior=priors, device=device, precision=precision, onnx=onnx
        )
        if recognizer.negatives is not None and (advice := recognizer.negatives.advice()):
            note(advice)
        return recognizer

    kept = {"overwrite": overwrite, "retry_errors": retry_errors, "keep_missing": keep_missing}
    if on_ray:
        counts = run_on_ray(
            opened,
            settings,
            listing,
            output,
            setup,
            selection=selection,
            prior=priors,
            address=ray_address,
            device=device,
            precision=precision,
            **kept,
        )
        _conclude(counts, settings, listing, output, strict=strict)
        return
    plan, unit, keys = None, "images", listing.keys
    items: Sequence[ImageItem] = listing
    recognize: Recognize = recognized_images
    scratch = None
    if boxes is not None:
        from recognizer.boxes.outputs import file_ids, file_image_ids
        from recognizer.boxes.rows import recognized_boxes

        if boxes == AUTO:
            scratch = context.with_resource(tempfile.TemporaryDirectory())
            plan = find_box_plan(listing, setup, output, open_recognizer, features, scratch, **kept)
        else:
            plan = read_box_plan(boxes, listing, settings.boxes)
            ids = file_ids(plan.file, opened.vectors.categories)
            setup = replace(setup, category_ids=ids, image_ids=file_image_ids(plan.items))
        unit, keys, items, recognize = "rows", plan.keys, plan.items, recognized_boxes
    with opened_output(
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
                show_progress(batches, sink, len(items), "recognise", unit=unit)
        counts = sink.finish()
        written = partial(written_rows, output, format_name(format))
        if pictures is not None:
            draw_run(pictures, written, listing, len(items), settings)
        if plan is not None:
            write_box_results(written, plan, opened, setup, coco=coco, megadetector=megadetector)
    _conclude(counts, settings, listing, output, plan, strict=strict)
    require_answers(reranker, strict=strict)


def _conclude(
    counts: RunCounts,
    settings: Settings,
    listing: Listing,
    output: str,
    plan: BoxPlan | None = None,
    *,
    strict: bool,
) -> None:
    """Say what came of a run; exit with 1 where too many images failed."""
    note(f"{_outcome(counts, plan)}; results {place_of(output)}")
    for line in listing.left_out:
        note(line)
    unit = "images" if plan is None else "rows"
    too_many = counts.failed_share > settings.run.max_failed
    if too_many:
        note(
            f"WARNING: {counts.failed} of {counts.total} {unit} failed, more than the share of "
            f"{settings.run.max_failed:g} that run.max_failed accepts; the rows with status error say why"
        )
    if too_many or (counts.failed and strict):
        raise typer.Exit(1)


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
