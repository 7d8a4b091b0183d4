"""New things with names, as GRAIN's Products-2023 (which is not released): each part of the method switched on in turn.

Descriptions come from a label file, exemplars from the images: half of each class, or those of `train`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memory import Category, read_labels
from memory.wording import counted
from recognizer.benchmark.bench import Bench
from recognizer.benchmark.labelled_data import LabelledData, read_data
from recognizer.benchmark.shots import draw_shots
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.building import build_memory
from recognizer.console import note, progress_bar
from recognizer.evaluation.evaluate import Evaluation, evaluate
from recognizer.evaluation.labelled import LabelledImages, match_labels
from recognizer.features import FeatureStore
from recognizer.recognizer import Recognizer
from recognizer.score import Rows

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker

PROTOCOL = "novel"
SHOTS = 4


def novel(
    bench: Bench,
    data: Path,
    *,
    sets: Sequence[str] = (),
    labels: Path | None = None,
    shots: int = SHOTS,
    seeds: int = 3,
    reranker: MllmReranker | None = None,
) -> BenchmarkTable:
    """Measure what names, descriptions, regions, exemplars and an MLLM give, one after the other.

    Args:
        bench: what is measured; the images are encoded once for all seeds.
        data: labelled images.
        sets: names of usual data sets to measure on; empty: all that are there.
        labels: label file with the names, which may have descriptions; None: the labels of the images.
        shots: exemplars of each class; 0 for none.
        seeds: how many draws of these.
        reranker: an MLLM that orders the best candidates.

    Raises:
        LayoutError: there are no labelled images.
        LabelledSetError: no label of the images is a name of the label file.
    """
    rows: list[BenchmarkRow] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recognizer-")))
        features = bench.features or stack.enter_context(
            FeatureStore(folder / "features", bench.encoder.card, bench.settings.images, warn=note)
        )
        for number, each in enumerate(read_data(data, sets=sets)):
            categories = [Category(name) for name in each.classes] if labels is None else read_labels(labels)
            found: dict[tuple[str, str], list[float]] = {}
            for seed in range(seeds):
                pool, tests = each.divided(seed)
                drawn = pool[draw_shots(each.labels[pool], shots, seed=seed)]
                memory = build_memory(
                    _with_exemplars(categories, _labelled(each, drawn)),
                    folder / f"{number}.memory",  # the next seed encodes no text again
                    encoder=bench.encoder,
                    features=features,
                )
                recognizer = Recognizer(bench.encoder, memory, settings=bench.settings, features=features)
                evaluation = _evaluated(recognizer, _labelled(each, tests), reranker, seed, each.name)
                for what, accuracy in evaluation.rows.items():
                    for metric, figure in (("top-1", accuracy.top1), ("top-5", accuracy.top5)):
                        found.setdefault((what, metric), []).append(figure.value)
            rows += [
                BenchmarkRow(each.name, what, metric, values, evaluation.images, _note(each, shots))
                for (what, metric), values in found.items()
            ]
    return BenchmarkTable(
        PROTOCOL,
        bench.encoder.card,
        rows,
        options={
            "labels": None if labels is None else str(labels),
            "shots": shots,
            "seeds": seeds,
            "mllm": None if reranker is None else reranker.mllm.name,
        },
    )


def _note(data: LabelledData, shots: int) -> str:
    """Say what its reader says of the data, and how many classes have fewer images than the shots asked for."""
    pool, _ = data.divided(0)
    short = int((np.bincount(data.labels[pool], minlength=len(data.classes)) < shots).sum())
    fewer = f"{short} of {counted(len(data.classes), 'class', 'classes')} with fewer than {shots} exemplars"
    return "; ".join(text for text in (data.note, fewer if short else "") if text)


def _labelled(data: LabelledData, images: Rows) -> LabelledImages:
    return LabelledImages(data.at(images), [data.classes[label] for label in data.labels[images]])


def _with_exemplars(categories: Sequence[Category], images: LabelledImages) -> list[Category]:
    """Give categories these example images in place of those that the label file may name."""
    paths: list[list[str]] = [[] for _ in categories]
    if images.items:
        matched = match_labels(images, categories)
        for item, row in zip(matched.items, matched.rows, strict=True):
            paths[row].append(os.fsdecode(item.path))
    return [replace(category, exemplars=tuple(own)) for category, own in zip(categories, paths, strict=True)]


def _evaluated(
    recognizer: Recognizer, images: LabelledImages, reranker: MllmReranker | None, seed: int, what: str
) -> Evaluation:
    labelled = match_labels(images, recognizer.memory.vectors.categories)
    for label, number in labelled.unmatched.items():
        note(f"warning: {what}: images left out: {number} of {label!r}, which is no name of the label file")
    with ExitStack() as stack:
        advance = stack.enter_context(progress_bar(len(labelled.items), "images", what))
        asking = stack.enter_context(progress_bar(len(labelled.items), "images", "rerank")) if reranker else None
        return evaluate(recognizer, labelled, reranker=reranker, progress=advance, rerank_progress=asking, seed=seed)
