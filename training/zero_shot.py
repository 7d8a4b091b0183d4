"""Zero-shot accuracy of an encoder on labelled images, measured as `recognizer build` and `recognizer eval` do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from memory import read_labels
from recognizer.building import build_memory
from recognizer.console import table
from recognizer.encoder import Encoder
from recognizer.evaluation.evaluate import CONTROLS, evaluate
from recognizer.evaluation.labelled import match_labels, read_labelled
from recognizer.recognizer import Recognizer
from training.config import EvaluationSet

SetAccuracy = dict[str, dict[str, float]]
"""By scoring method (`names`, `+ descriptions`, `+ regions`): `top1` and `top5` from 0 to 1, and `images`."""


def zero_shot(encoder: Encoder, labelled_set: EvaluationSet) -> SetAccuracy:
    """Measure the accuracy on one set; costs one pass over its images.

    Raises:
        recognizer.evaluation.labelled.LabelledSetError: the images fit no category of the labels.
        ValueError: not one image could be decoded.
    """
    categories = read_labels(labelled_set.labels)
    with TemporaryDirectory() as folder:
        memory = build_memory(categories, Path(folder), encoder=encoder)
        labelled = match_labels(read_labelled(labelled_set.images), memory.vectors.categories)
        evaluation = evaluate(Recognizer(encoder, memory), labelled)
    return {
        name: {"top1": row.top1.value, "top5": row.top5.value, "images": float(evaluation.images)}
        for name, row in evaluation.rows.items()
        if name not in CONTROLS
    }


def accuracy_table(measurements: Mapping[str, Mapping[str, SetAccuracy]]) -> str:
    """Lay accuracies out as text.

    Args:
        measurements: by time of measurement (`epoch 2`), then by set.
    """
    rows = [
        [when, name, way, f"{row['top1']:.4f}", f"{row['top5']:.4f}", f"{row['images']:.0f}"]
        for when, sets in measurements.items()
        for name, ways in sets.items()
        for way, row in ways.items()
    ]
    return table(["measured", "set", "scored by", "top-1", "top-5", "images"], rows)
