"""The command `annotate`."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from memory.errors import printable
from memory.wording import counted
from recognizer.cli.engine_runs import check_engine
from recognizer.cli.options import (
    HARDWARE,
    INPUT,
    MODELS,
    OUTPUT,
    ConfigOption,
    DeviceOption,
    Engine,
    ExcludeOption,
    RayAddressOption,
    SetOption,
)
from recognizer.console import note, show, table


class SubjectsFrom(StrEnum):
    """Where the subject of an image comes from that has none of its own."""

    given = "given"
    folder = "folder"
    file = "file"


def annotate(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Folder, glob, image files (captions in a .txt beside each), a .txt list of them; or a .csv of path, "
            "caption and subject; or a manifest (.jsonl)."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Manifest (NAME.jsonl), or a folder for shards.", rich_help_panel=OUTPUT)
    ],
    subjects: Annotated[
        SubjectsFrom,
        typer.Option(
            help="Where the subject of an image comes from: given (by the input, else the MLLM names it), or the name "
            "of its folder or file.",
            rich_help_panel=INPUT,
        ),
    ] = SubjectsFrom.given,
    descriptions: Annotated[
        Path | None,
        typer.Option(
            help="Descriptions by subject: a JSON object of names with lists of texts, or any label file that has "
            "descriptions.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    exclude: ExcludeOption = None,
    mllm: Annotated[
        str | None,
        typer.Option(
            help="Multimodal LLM that writes captions, subjects and descriptions: a hub name, a directory, vllm:NAME, "
            "or the URL of an OpenAI-compatible server.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    mllm_batch: Annotated[
        int | None,
        typer.Option(help="Images per batch of questions. Default: what keeps it busy.", rich_help_panel=MODELS),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            help="OWLv2 or Grounding DINO: a hub name or a directory; or mask, which needs no model: cut-outs, and "
            "photographs with a plain background.",
            rich_help_panel=MODELS,
        ),
    ] = "google/owlv2-base-patch16-ensemble",
    detector_revision: Annotated[
        str | None, typer.Option(help="Commit of a hub model; pin it.", rich_help_panel=MODELS)
    ] = None,
    threshold: Annotated[float, typer.Option(help="Lowest score of a box.", rich_help_panel=MODELS)] = 0.3,
    max_boxes: Annotated[int, typer.Option(help="Boxes of an image, the best ones.", rich_help_panel=OUTPUT)] = 10,
    detector_batch: Annotated[
        int, typer.Option(help="Images per forward pass of the detector.", rich_help_panel=HARDWARE)
    ] = 8,
    gate_encoder: Annotated[
        str | None,
        typer.Option(
            help="Leave out descriptions that this encoder (such as starter) scores below the mean of their image.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    max_area: Annotated[
        float | None,
        typer.Option(help="Leave out boxes that cover a larger share of the image.", rich_help_panel=OUTPUT),
    ] = None,
    max_overlap: Annotated[
        float | None,
        typer.Option(
            help="Leave out descriptions that share so much of their words with an earlier one.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    device: DeviceOption = "auto",
    engine: Annotated[
        Engine,
        typer.Option(
            help="ray: MLLM and detector compute on Ray's workers, here or on a cluster, one for each GPU where there "
            "are some. All else stays here: each image is read and checked, decoded for the MLLM, and scored for "
            "--gate-encoder.",
            rich_help_panel=HARDWARE,
        ),
    ] = Engine.local,
    ray_address: RayAddressOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write captions, region descriptions and boxes for training; run the same command again to resume.

    Example: recognizer annotate photos --output photos.jsonl --subjects file --detector mask
    """
    from memory.durable import file_sha256
    from recognizer.settings import load_settings
    from training.annotation.annotate import AnnotationSettings, OnRay, report_path, store_path
    from training.annotation.annotate import annotate as run
    from training.annotation.gates import Gates
    from training.annotation.inputs import read_descriptions, read_images
    from training.annotation.output import check_output
    from training.data.record import NO_CAPTION

    on_ray = check_engine(engine, ray_address)
    settings = load_settings(config, overrides=overrides or [])
    bare = read_images(images, subjects=subjects.value, exclude=exclude or [])
    for line in bare.notes:
        note(line)
    check_output(output, store_path(output), bare, images)
    outcome = run(
        bare,
        output,
        AnnotationSettings(
            detector=detector,
            detector_revision=detector_revision,
            threshold=threshold,
            detector_batch=detector_batch,
            most_boxes=max_boxes,
            mllm=settings.rerank.model_copy(update={"model": mllm}) if mllm else None,
            mllm_batch=mllm_batch,
            known=read_descriptions(descriptions) if descriptions else {},
            gates=Gates(max_overlap=max_overlap, max_area=max_area),
            gate_encoder=gate_encoder,
            sources={"descriptions_file": file_sha256(descriptions)} if descriptions else {},
            device=device,
            workers=settings.run.workers,
            limits=settings.images,
        ),
        warn=note,
        ray=OnRay(ray_address) if on_ray else None,
    )
    report = outcome.report
    if report.counts:
        show(table(["reason", "count"], [[reason, str(number)] for reason, number in report.counts.most_common()]))
    show(
        f"{report.records} of {counted(report.images, 'image')} annotated, {counted(report.boxes, 'box', 'boxes')}: "
        f"{output}; counts and settings: {report_path(output)}"
    )
    first = {reason: path for path, reason in reversed(report.left_out.items())}
    for reason, number in Counter(report.left_out.values()).most_common():
        note(f"left out: {printable(reason)}: {counted(number, 'image')}, such as {printable(first[reason], 80)}")
    if without := sum(reason == NO_CAPTION for reason in report.left_out.values()):
        note(
            f"{counted(without, 'image')} left out for want of a caption: give --mllm to write one, a .txt or a column "
            "caption that holds one, or --subjects file, or folder for images in FOLDER/NAME/"
        )
    for (stage, reason), number in outcome.unanswered.items():
        note(f"WARNING: {stage}: {number} not answered: {reason}; repeat the command to ask again")
    if outcome.unanswered or not report.records:
        raise typer.Exit(1)
