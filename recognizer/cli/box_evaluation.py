"""`eval --boxes`: average precision and accuracy of boxes, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from memory.wording import counted
from recognizer.cli.reranking import opened_reranker
from recognizer.cli.stored_features import use_features
from recognizer.console import note, progress_bar, show, table

if TYPE_CHECKING:
    from memory import Memory
    from recognizer.boxes.evaluate import BoxEvaluation
    from recognizer.boxes.plan import BoxPlan
    from recognizer.prior import Prior
    from recognizer.recognizer import Recognizer
    from recognizer.results import Row
    from recognizer.settings import Settings
    from rerank.reranker import MllmReranker

LEAST_CANDIDATES = 5
"""Top-5 accuracy takes so many."""


def evaluate_box_files(
    folder: Path,
    annotations: Path,
    detections: Path | None,
    memory: Memory,
    settings: Settings,
    *,
    prior: Prior | None,
    features: str | None,
    device: str,
    precision: str,
    json_file: Path | None,
) -> MllmReranker | None:
    """Measure on annotations, print the figures, and return the MLLM that was asked.

    Args:
        folder: of the images.
        annotations: of COCO or LVIS.
        detections: COCO detections whose boxes are recognised; None: those of the annotations are.
        memory: the categories.
        settings: of scoring and reranking.
        prior: of the categories; None: all are equally common.
        features: as given to the command, like the rest.
        device: likewise.
        precision: likewise.
        json_file: where the figures are written.
    """
    from recognizer.boxes.evaluate import evaluate_boxes
    from recognizer.boxes.formats import read_annotated, read_detected
    from recognizer.boxes.plan import plan_boxes
    from recognizer.images import list_images
    from recognizer.recognizer import Recognizer

    listing = list_images([folder])
    annotated = plan = plan_boxes(read_annotated(annotations), listing)
    if detections is not None:
        plan = plan_boxes(read_detected(detections, annotated.file), listing)
    for line in plan.notes:
        note(line)
    run = settings.run.model_copy(update={"top_k": max(settings.run.top_k, LEAST_CANDIDATES)})
    settings = settings.model_copy(update={"run": run})
    with opened_reranker(settings) as reranker:
        recognizer = Recognizer.open(memory, settings=settings, prior=prior, device=device, precision=precision)
        with use_features(recognizer, features), progress_bar(len(plan.items), "boxes", "evaluate") as advance:
            rows: list[Row] = []
            for done in _recognized(recognizer, plan, reranker):
                rows += done
                advance(len(done))
    evaluation = evaluate_boxes(annotated, plan, rows, memory.vectors.categories)
    show(*print_lines(evaluation))
    if json_file:
        json_file.write_text(json.dumps(asdict(evaluation), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return reranker


def _recognized(recognizer: Recognizer, plan: BoxPlan, reranker: MllmReranker | None) -> Iterator[list[Row]]:
    from recognizer.boxes.rows import recognized_boxes
    from recognizer.reranking.stage import rerank_in_background
    from recognizer.run import row_batches

    settings, count = recognizer.settings, len(plan.items)
    numbers = (
        range(count)[start : start + settings.run.batch_size] for start in range(0, count, settings.run.batch_size)
    )
    batches = row_batches(plan.items, numbers, lambda pending: recognized_boxes(recognizer, pending))
    if reranker is not None:
        batches = rerank_in_background(batches, reranker, settings.rerank, score=settings.score, limits=settings.images)
    return (batch.rows for batch in batches)


def print_lines(evaluation: BoxEvaluation) -> Iterator[str]:
    """Yield the figures and what was left out, as text."""
    from recognizer.evaluation.labelled import left_out_sentence

    names = list(evaluation.precision)
    values = ["none" if value is None else f"{value:.3f}" for value in evaluation.precision.values()]
    yield table(names, [values])
    yield ""
    rows = [
        [size, str(each.boxes)]
        + [f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]" for figure in (each.top1, each.top5)]
        for size, each in evaluation.accuracy.items()
    ]
    yield table(["size", "boxes", "top-1", "top-5"], rows)
    yield ""
    yield (
        f"{counted(evaluation.boxes, 'box', 'boxes')}; sizes by area: below 32² pixels, below 96², more; 95 % "
        "bootstrap intervals in brackets"
    )
    if evaluation.unknown:
        yield f"{counted(evaluation.unknown, 'box', 'boxes')} on no annotated object, in the precision alone"
    for code, number in evaluation.failed.items():
        yield f"{counted(number, 'box', 'boxes')} could not be recognised ({code})"
    if evaluation.unmatched:
        yield left_out_sentence(evaluation.unmatched, "box")
