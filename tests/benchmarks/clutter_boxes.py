"""Boxes as queries on clutter scenes: true boxes, the encoder's own objects and the whole image, side by side.

usage: python tests/benchmarks/clutter_boxes.py PICTURES [--fold 0] [--set boxes.margin=0.2]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. The scenes are those of `zero_shot.py`: 200 of 2
to 4 cut-outs on photographs, among 403 names. Fold 0 is held out; choose on 1. Recall@10 is the share of objects whose
name is among the first 10

- of the ranking of the whole image, with regions, as `run` gives it
- of the ranking of the object's own box, as `run --boxes FILE` gives it; also top-1
- of the ranking of the found box that overlaps the object most, at least half (IoU), as `run --boxes auto` gives it
- of all names of the found boxes of the image, in the order of their confidence: as many names an image as the first

An object is found where a box overlaps it by at least half. The untrained starter's windows are chosen like the objects
of the trained one: by weight, without overlaps, at most as many.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recognizer import Encoder, Recognizer
from recognizer.boxes.auto import find_objects, found_objects, objects_file
from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.boxes.plan import BoxPlan, plan_boxes
from recognizer.boxes.rows import recognized_boxes
from recognizer.console import note, table
from recognizer.encoder.boxes import pairwise_iou
from recognizer.images import Listing, list_images
from recognizer.pipeline import in_batches
from recognizer.results import ResultRow, Row
from recognizer.run import recognized_images
from tests.benchmarks.clutter import Scene, compose
from tests.benchmarks.zero_shot import SCENES, encoded, load, prepare, with_interval
from training.starter.pictures import backgrounds, fold, stamps

NAMES = 10
OVERLAP = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="0 is held out; choose on 1")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    everything = stamps(arguments.pictures)
    shown = [picture for picture in everything if fold(picture.name) == arguments.fold]
    scenes = compose(shown, backgrounds(arguments.pictures), SCENES, seed=0)
    names = list(dict.fromkeys(picture.name for picture in everything))
    overrides = [f"run.top_k={NAMES}", *arguments.overrides]
    recognizer, _ = prepare(load("grounded", arguments.precision), names, overrides)
    with tempfile.TemporaryDirectory() as folder:
        for number, scene in enumerate(scenes):
            scene.image.save(os.path.join(folder, f"{number:03}.png"))
        print(f"fold {arguments.fold}, {sum(len(scene.names) for scene in scenes)} objects")
        print(
            table(["boxes", "figure", "value"], measure(recognizer, scenes, list_images(folder), arguments.precision))
        )


def measure(recognizer: Recognizer, scenes: Sequence[Scene], listing: Listing, precision: str) -> list[list[str]]:
    note("whole images")
    rows: list[Row] = []
    for _, own, _ in recognized_images(recognizer, in_batches(listing, 32)):
        rows += own
    whole = recall(scenes, lambda number, _: names_of(rows[number]))
    note("true boxes")
    given = [
        GivenBox(image=listing[number].key, xyxy=tuple(map(float, box)), annotation_id=place)
        for number, scene in enumerate(scenes)
        for place, box in enumerate(scene.boxes_xyxy)
    ]
    plan = plan_boxes(BoxFile(path=Path(os.fsdecode(listing.root)), format="scenes", boxes=given, by="key"), listing)
    own_rows = by_image(plan, boxed_rows(recognizer, plan))
    true = recall(scenes, lambda number, place: names_of(own_rows[listing[number].key][place]))
    best = recall(scenes, lambda number, place: names_of(own_rows[listing[number].key][place])[:1])
    note("objects that the encoder finds")
    found_rows: list[Row] = []
    for _, own, _ in found_objects(recognizer.encoder, in_batches(listing, 32), settings=recognizer.settings):
        found_rows += own
    auto = plan_boxes(objects_file(iter(found_rows), Path(os.fsdecode(listing.root))), listing)
    auto_rows = by_image(auto, boxed_rows(recognizer, auto))

    def of_nearest(number: int, place: int) -> list[str]:
        boxes = auto_rows[listing[number].key]
        overlaps = overlap(scenes[number].boxes_xyxy[place], [row.box.xyxy for row in boxes if row.box])
        return names_of(boxes[int(overlaps.argmax())]) if overlaps.max() >= OVERLAP else []

    def of_all(number: int, _: int) -> list[str]:
        sure: dict[str, float] = {}
        for row in auto_rows[listing[number].key]:
            for candidate in row.candidates:
                sure[candidate.category] = max(sure.get(candidate.category, 0), candidate.confidence)
        return sorted(sure, key=lambda name: -sure[name])[:NAMES]

    boxes = [[row.box.xyxy for row in auto_rows[item.key] if row.box] for item in listing]
    found = hits(scenes, lambda number, box: bool(len(boxes[number]) and overlap(box, boxes[number]).max() >= OVERLAP))
    note("windows of the untrained starter")
    untrained = windows(load("conse", precision), recognizer, scenes)
    there = hits(
        scenes, lambda number, box: bool(len(untrained[number]) and overlap(box, untrained[number]).max() >= OVERLAP)
    )
    each = sum(map(len, boxes)) / len(scenes)
    each_untrained = sum(map(len, untrained)) / len(scenes)
    return [
        ["whole image, with regions", "recall@10", with_interval(whole)],
        ["true", "recall@10", with_interval(true)],
        ["true", "top-1", with_interval(best)],
        ["auto", "recall@10 of the box on the object", with_interval(recall(scenes, of_nearest))],
        ["auto", "recall@10 of the image's best names", with_interval(recall(scenes, of_all))],
        ["auto", f"objects found by {each:.1f} boxes an image", with_interval(found)],
        ["untrained windows", f"objects found by {each_untrained:.1f} boxes an image", with_interval(there)],
        ["auto / untrained", "objects found", f"{np.nanmean(found) / np.nanmean(there):.2f}"],
    ]


def boxed_rows(recognizer: Recognizer, plan: BoxPlan) -> Iterator[Row]:
    for _, rows, _ in recognized_boxes(recognizer, in_batches(plan.items, 32)):
        yield from rows


def by_image(plan: BoxPlan, rows: Iterator[Row]) -> dict[str, list[ResultRow]]:
    found: dict[str, list[ResultRow]] = {}
    for item, row in zip(plan.items, rows, strict=True):
        assert isinstance(row, ResultRow)
        found.setdefault(item.key, []).append(row)
    return found


def windows(untrained: Encoder, recognizer: Recognizer, scenes: Sequence[Scene]) -> list[list[Sequence[float]]]:
    settings = recognizer.settings.boxes
    features = encoded(untrained, [scene.image for scene in scenes])
    each = (part.take(number) for part in features for number in range(len(part)))
    return [[label.box_xyxy for label in find_objects(one, settings) if label.box_xyxy] for one in each]


def names_of(row: Row) -> list[str]:
    return [candidate.category for candidate in row.candidates[:NAMES]]


def overlap(box: Sequence[float], others: Sequence[Sequence[float]]) -> torch.Tensor:
    one, many = (torch.tensor(each, dtype=torch.float64).reshape(-1, 4) for each in ([*box], [*others]))
    return pairwise_iou(one, many)[0]


def recall(scenes: Sequence[Scene], names) -> NDArray[np.float64]:
    """Tell for each object, in a row per scene, whether its name is among those of scene and object."""
    return per_object(scenes, lambda number, place: scenes[number].names[place] in names(number, place))


def hits(scenes: Sequence[Scene], is_hit) -> NDArray[np.float64]:
    return per_object(scenes, lambda number, place: is_hit(number, scenes[number].boxes_xyxy[place]))


def per_object(scenes: Sequence[Scene], figure) -> NDArray[np.float64]:
    values = np.full((len(scenes), max(len(scene.names) for scene in scenes)), np.nan)
    for number, scene in enumerate(scenes):
        for place in range(len(scene.names)):
            values[number, place] = figure(number, place)
    return values


if __name__ == "__main__":
    main()
