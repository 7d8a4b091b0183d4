"""Zero-shot accuracy of an encoder on labelled images, as `recognizer build` and `recognizer eval` would measure it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from memory import read_labels
from recognizer.building import build_memory
from recognizer.encoder import Encoder
from recognizer.evaluation.evaluate import CONTROL, evaluate
from recognizer.evaluation.labelled import match_labels, read_labelled
from recognizer.recognizer import Recognizer
from training.config import EvaluationSet

SetAccuracy = dict[str, dict[str, float]]
"""By scoring method (`names`, `+ descriptions`, `+ regions`): `top1` and `top5` from 0 to 1, and `images`."""


def zero_shot(encoder: Encoder, chosen: EvaluationSet) -> SetAccuracy:
    """Measure one set; costs one pass over its images.

    Raises:
        recognizer.evaluation.labelled.LabelledSetError: the images fit no category of the labels.
        ValueError: not one image could be decoded.
    """
    categories = read_labels(chosen.labels)
    with TemporaryDirectory() as folder:
        memory = build_memory(categories, Path(folder), encoder=encoder)
        labelled = match_labels(read_labelled(chosen.images), memory.vectors.categories)
        found = evaluate(Recognizer(encoder, memory), labelled)
    return {
        name: {"top1": row.top1.value, "top5": row.top5.value, "images": float(found.images)}
        for name, row in found.rows.items()
        if name != CONTROL
    }
