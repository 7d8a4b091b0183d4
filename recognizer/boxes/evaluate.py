"""How well boxes are recognised: average precision, and accuracy by the size of the object.

With the boxes of the annotations themselves, as RAR (arXiv 2403.13805) measures: each is ranked, and its best
categories are its detections. With detections of a detector, the score of a category is its confidence times the
detector's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memory import Category
from recognizer.boxes.average_precision import average_precision
from recognizer.boxes.formats.coco import image_name
from recognizer.boxes.given import GivenBox, to_id
from recognizer.boxes.outputs import category_ids, coco_results, file_ids, file_image_ids, image_ids
from recognizer.boxes.plan import BoxItem, BoxPlan
from recognizer.encoder.boxes import pairwise_iou
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import CategoryNames
from recognizer.evaluation.metrics import Interval, bootstrap
from recognizer.results.row import ErrorRow, ResultRow, Row

SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": math.inf}
"""Areas in pixels below which a box is of a size, as COCO divides them."""
LEAST_OVERLAP = 0.5
"""Overlap (IoU) from which a detection is taken for an annotated object."""
_OF_BOXES = frozenset({"E_BOX", "E_FRAME"})


@dataclass(frozen=True, slots=True)
class SizeAccuracy:
    """Accuracy over the boxes of one size."""

    boxes: int
    top1: Interval
    top5: Interval


@dataclass(frozen=True, slots=True)
class BoxEvaluation:
    """The result of `evaluate_boxes`.

    Attributes:
        precision: AP, AP50 and so on, None where there is no such object.
        accuracy: by the size of the box, and over all of them.
        boxes: how many boxes were recognised.
        failed: how many were not, by error code.
        unmatched: labels of the annotations that name no category, with the number of their boxes.
        unknown: how many detections lie on no annotated object; they count in the precision alone.
    """

    precision: Mapping[str, float | None]
    accuracy: Mapping[str, SizeAccuracy]
    boxes: int
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]
    unknown: int


def evaluate_boxes(
    annotated: BoxPlan, plan: BoxPlan, rows: Sequence[Row], categories: Sequence[Category], *, seed: int = 0
) -> BoxEvaluation:
    """Compare the rows of boxes with annotations.

    Objects of crowds, of categories that the memory lacks and of images that cannot be used are left out.

    Args:
        annotated: of the annotations.
        plan: of the boxes that were recognised; the same one, or that of detections.
        rows: one per item of `plan`.
        categories: of the memory.
        seed: of the bootstrap.

    Raises:
        RecognizerError: no object is left.
    """
    names = CategoryNames(categories)
    truth_of = {
        key: fitting[0] for key, name in annotated.file.categories.items() if len(fitting := names.rows(name)) == 1
    }
    missing = {item.box.image_id for item in annotated.items if item.box and item.problem}
    missing |= {
        item.box.image_id
        for item, row in zip(plan.items, rows, strict=True)
        if item.box and isinstance(row, ErrorRow) and row.code not in _OF_BOXES
    }
    objects = [item for item in annotated.items if item.box and item.box.image_id not in missing]
    known = [item for item in objects if item.box and item.box.category_id in truth_of and not item.box.is_crowd]
    if not known:
        raise RecognizerError(
            f"{annotated.file.path} has no object whose image is there and whose label is a category of the memory"
        )
    dataset = _dataset(annotated, {*truth_of}, missing)
    ids = category_ids(file_ids(annotated.file, categories), ((each.name, each.group) for each in categories))
    unknown_ids = {*ids.values()} - {*truth_of}
    images = image_ids(file_image_ids(plan.items), (row.path for row in rows))
    results = [
        result for result in coco_results(plan.items, rows, ids, images) if result["category_id"] not in unknown_ids
    ]
    lvis = annotated.file.format.startswith("LVIS")
    recognised = [
        (item.box, row)
        for item, row in zip(plan.items, rows, strict=True)
        if item.box is not None and isinstance(row, ResultRow)
    ]
    pairs = _pairs(annotated, plan, known, recognised)
    hits: dict[str, list[tuple[bool, bool]]] = {size: [] for size in SIZES}
    for box, row in pairs:
        category = categories[truth_of[box.category_id or 0]]
        wanted = category.name, category.group
        ranking = [(candidate.category, candidate.group) for candidate in row.candidates[:5]]
        hits[size_of(box)].append((ranking[:1] == [wanted], wanted in ranking))
    every = [hit for own in hits.values() for hit in own]
    return BoxEvaluation(
        precision=average_precision(dataset, results, lvis=lvis),
        accuracy={size: _accuracy(own, seed) for size, own in {**hits, "all": every}.items() if own},
        boxes=len(recognised),
        failed=dict(Counter(row.code for row in rows if isinstance(row, ErrorRow))),
        unmatched=dict(
            Counter(
                item.box.category or ""
                for item in objects
                if item.box and item.box.category_id not in truth_of and not item.box.is_crowd
            )
        ),
        unknown=0 if plan is annotated else len(recognised) - len(pairs),
    )


def size_of(box: GivenBox) -> str:
    """Return the size of an annotated object by its area in pixels of its file."""
    return next((size for size, bound in SIZES.items() if _area(box) < bound), "large")


def _area(box: GivenBox) -> float:
    return (box.xyxy[2] - box.xyxy[0]) * (box.xyxy[3] - box.xyxy[1]) if box.area is None else box.area


def _dataset(annotated: BoxPlan, categories: set[int | str], missing: set[int | str | None]) -> dict[str, Any]:
    """Return the part of the annotations that the boxes are compared with, in COCO's form."""
    document = annotated.file.document
    images = [
        image
        for image in document["images"]
        if isinstance(image, dict) and image_name(image) is not None and to_id(image.get("id")) not in missing
    ]
    present = {image["id"] for image in images}
    annotations: list[dict[str, Any]] = []
    for item in annotated.items:
        box = item.box
        if box is None or box.image_id not in present or box.category_id not in categories:
            continue
        x0, y0, x1, y1 = box.xyxy
        if all(map(math.isfinite, box.xyxy)) and x1 > x0 and y1 > y0:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": box.image_id,
                    "category_id": box.category_id,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": _area(box),
                    "iscrowd": int(box.is_crowd),
                }
            )
    kinds = [each for each in document["categories"] if isinstance(each, dict) and each.get("id") in categories]
    return {"images": images, "annotations": annotations, "categories": kinds}


def _pairs(
    annotated: BoxPlan,
    plan: BoxPlan,
    known: Sequence[BoxItem],
    recognised: Sequence[tuple[GivenBox, ResultRow]],
) -> list[tuple[GivenBox, ResultRow]]:
    """Return recognised boxes with the annotated object that each of them is."""
    if plan is annotated:
        usable = {item.box.id for item in known if item.box}
        return [(box, row) for box, row in recognised if box.id in usable]
    by_image: dict[int | str | None, list[GivenBox]] = {}
    for item in known:
        # An edge that is no number would make the overlap of every box of the image no number.
        if item.box is not None and all(map(math.isfinite, item.box.xyxy)):
            by_image.setdefault(item.box.image_id, []).append(item.box)
    pairs = []
    for box, row in recognised:
        objects = by_image.get(box.image_id, [])
        if not objects:
            continue
        overlaps = pairwise_iou(torch.tensor([box.xyxy]), torch.tensor([each.xyxy for each in objects]))[0]
        best = int(overlaps.argmax())
        if overlaps[best] >= LEAST_OVERLAP:
            pairs.append((objects[best], row))
    return pairs


def _accuracy(hits: Sequence[tuple[bool, bool]], seed: int) -> SizeAccuracy:
    top1, top5 = np.array(hits, float).T
    return SizeAccuracy(
        boxes=len(hits),
        top1=bootstrap(lambda drawn: float(top1[drawn].mean()), len(hits), seed=seed),
        top5=bootstrap(lambda drawn: float(top5[drawn].mean()), len(hits), seed=seed),
    )
