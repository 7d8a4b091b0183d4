"""Boxes without a detector: the regions that the encoder itself takes for objects.

They are found in a pass of their own over the images, whose results are kept beside the output, so that a run over them
resumes like one over a file: which boxes an image has is known before the first of them is recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.ops import nms

from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.boxes.settings import BoxSettings
from recognizer.encoder import Encoder, ImageFeatures
from recognizer.features import FeatureStore, encode_or_read
from recognizer.images import ImageItem
from recognizer.pipeline import EncodedBatch, NumberedItems
from recognizer.results.row import ErrorRow, FoundLabel, ResultRow, Row, unlabelled_row
from recognizer.settings import Settings

SUFFIX = ".boxes.jsonl"
"""Behind the name of an output, the file of the boxes that were found for it."""
WHOLE = GivenBox(image="", xyxy=(0.0, 0.0, 1.0, 1.0), shares=True)


def find_objects(image: ImageFeatures, settings: BoxSettings) -> list[FoundLabel]:
    """Return the regions of one image that are objects, heaviest first.

    Weights count as how sure the encoder is of an object; of regions that overlap only the heaviest stays (non-maximum
    suppression).

    Args:
        image: features of one image.
        settings: which regions count.
    """
    weights, boxes = torch.from_numpy(image.region_weight[0]), torch.from_numpy(image.boxes_xyxy[0])
    sides = boxes[:, 2:] - boxes[:, :2]
    usable = torch.nonzero((weights >= settings.least_weight) & (sides >= 1).all(dim=1))[:, 0]
    kept = usable[nms(boxes[usable], weights[usable], settings.nms_overlap)][: settings.most]
    return [FoundLabel(category="", presence=float(weights[row]), box_xyxy=boxes[row].tolist()) for row in kept]


def found_objects(
    encoder: Encoder,
    batches: Iterator[NumberedItems],
    *,
    settings: Settings,
    features: FeatureStore | None = None,
) -> Iterator[tuple[EncodedBatch, list[Row], float]]:
    """Find the objects of images, batch by batch.

    Args:
        encoder: whose regions they are.
        batches: number and images of each batch.
        settings: of objects and of decoding.
        features: stored features, which are used and added to.

    Yields:
        Each batch, a row per image whose `labels` are its objects without a category, and 0 seconds of scoring.
    """
    for batch in encode_or_read(
        encoder, batches, features=features, workers=settings.run.workers, limits=settings.images
    ):
        rows: list[Row] = []
        places = {position: row for row, position in enumerate(batch.positions)}
        for position, (item, error) in enumerate(zip(batch.items, batch.errors, strict=True)):
            if error is not None:
                rows.append(ErrorRow(path=item.key, path_b64=item.key_base64, code=error.code, reason=error.reason))
            elif batch.features is not None:
                place = places[position]
                rows.append(_row(item, batch.features.take(place), batch.sizes_hw[place], settings.boxes))
        yield batch, rows, 0.0


def _row(item: ImageItem, image: ImageFeatures, size_hw: tuple[int, int], settings: BoxSettings) -> ResultRow:
    height, width = size_hw
    row = unlabelled_row(item.key, item.key_base64)
    return replace(row, width=width, height=height, labels=find_objects(image, settings))


def objects_file(rows: Iterator[Row], output: Path) -> BoxFile:
    """Return found objects as a file of boxes.

    An image in which nothing stands out is one object, as is one that could not be decoded: its row will say why.
    """
    boxes: list[GivenBox] = []
    for row in rows:
        found = [] if isinstance(row, ErrorRow) else row.labels or []
        boxes += [
            GivenBox(
                image=row.path,
                xyxy=(label.box_xyxy[0], label.box_xyxy[1], label.box_xyxy[2], label.box_xyxy[3]),
                confidence=label.presence,
            )
            for label in found
            if label.box_xyxy is not None
        ] or [replace(WHOLE, image=row.path)]
    return BoxFile(path=output, format="regions of the encoder", boxes=boxes, by="key")
