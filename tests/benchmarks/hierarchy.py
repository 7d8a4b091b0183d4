"""Labels rolled up to groups, and labels left out for a precision: what was stated, and what is reached.

usage: python tests/benchmarks/hierarchy.py PICTURES [--sets stamps gcompris qabcs emoji] [--seeds 5] [--features DIR]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. Sets, all of their names: stamps, gcompris and
qabcs with WordNet's hypernyms as groups, qabcs with its own four, emoji (Noto) with the groups of its list. On gcompris
nothing was trained.

`calibrate` fits weights, temperature, thresholds and the curve of precision on one half of the images; all figures but
the last two rows are of the other half. The first seed's have a 95 % bootstrap interval; behind it the mean and the
standard deviation over all seeds, each of which is another split. The last two rows are of all images, with the
weights of a new memory.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memory import Category
from recognizer import Encoder, Recognizer
from recognizer.building import build_memory
from recognizer.calibration.calibrate import Calibration, calibrate
from recognizer.console import note, table
from recognizer.evaluation.evaluate import evaluate
from recognizer.evaluation.labelled import LabelledImages, match_labels
from recognizer.evaluation.metrics import Interval
from recognizer.features import FeatureStore
from recognizer.hierarchy.wordnet import with_hypernyms
from recognizer.images import ImageItem, ImageLimits
from tests.benchmarks.gcompris import gcompris
from training.starter.emoji import emoji
from training.starter.pictures import Picture, qabcs, stamps

SETS = ("stamps", "gcompris", "qabcs", "emoji")
ACCURACY = 0.9


@dataclass(frozen=True)
class GroupedSet:
    """Pictures, and the categories to choose from with their groups."""

    label: str
    pictures: Sequence[Picture]
    categories: Sequence[Category]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--features", type=Path, help="folder of stored features; default: one that is removed")
    arguments = parser.parse_args()
    encoder = Encoder.load("starter")
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(arguments.features or Path(folder) / "features", encoder.card, ImageLimits(), warn=note)
        with store as features:
            for number, image_set in enumerate(grouped_sets(arguments.pictures, arguments.sets, encoder)):
                memory = build_memory(image_set.categories, Path(folder) / str(number), encoder=encoder)
                recognizer = Recognizer(encoder, memory, features=features)
                print(measured(recognizer, image_set, arguments.seeds), flush=True)


def grouped_sets(root: Path, wanted: Sequence[str], encoder: Encoder) -> Iterator[GroupedSet]:
    readers = {"stamps": stamps, "gcompris": gcompris, "qabcs": qabcs, "emoji": lambda root: emoji(root, "noto")}
    for label in wanted:
        pictures = readers[label](root)
        names = list(dict.fromkeys(picture.name for picture in pictures))
        if label == "emoji":
            lists = json.loads((root / "emoji-noto" / "metadata.json").read_text(encoding="utf-8"))["categories"]
            groups = {name.lower().replace("-", " "): group for group, own in lists.items() for name in own}
            yield GroupedSet("emoji", pictures, [Category(name, groups.get(name, "")) for name in names])
            continue
        yield GroupedSet(f"{label}, WordNet", pictures, with_hypernyms([Category(name) for name in names], encoder)[0])
        if label == "qabcs":
            groups = {picture.name: picture.path.parent.name for picture in pictures}
            yield GroupedSet("qabcs, own groups", pictures, [Category(name, groups[name]) for name in names])


def measured(recognizer: Recognizer, image_set: GroupedSet, seeds: int) -> str:
    items = [ImageItem(*[os.fsencode(picture.path)] * 2) for picture in image_set.pictures]
    labelled = LabelledImages(items, [picture.name for picture in image_set.pictures])
    fits = [calibrate(recognizer, labelled, roll_up_accuracy=ACCURACY, seed=seed) for seed in range(seeds)]
    whole = evaluate(recognizer, match_labels(labelled, recognizer.memory.vectors.categories)).roll_up
    assert whole is not None
    reports = [fit.roll_up.report for fit in fits if fit.roll_up is not None]
    depth = np.mean([len(category.path) for category in image_set.categories])
    rows = [
        ["images, names, mean levels", f"{len(items)}, {len(image_set.categories)}, {depth:.1f}"],
        ["top-1", with_mean([fit.after.top1 for fit in fits])],
        [f"roll-up at {ACCURACY:g}: accuracy", with_mean([report.accuracy for report in reports])],
        ["  images with a label", mean([report.answered for report in reports])],
        ["  with a category", mean([report.category for report in reports])],
        ["  depth kept", mean([report.depth for report in reports])],
        *[[f"precision {asked:g}", precision_line(fits, asked)] for asked in (0.9, 0.95, 0.98)],
    ]
    for precision, coverage in whole.coverage.items():
        shown = f"{show(coverage.category)}, {show(coverage.rolled_up)}"
        rows.append([f"coverage at {precision:g}: categories, rolled up", shown])
    return f"{image_set.label}\n{table(['', ''], rows)}\n"


def precision_line(fits: Sequence[Calibration], asked: float) -> str:
    reached = [each for fit in fits for each in fit.precision if each.asked == asked]
    if not reached:
        best = max(fit.score.precision_curve[-1][1] for fit in fits if fit.score.precision_curve)
        return f"supported by 0 of {len(fits)} halves; the best is {best:.3f}"
    shares = mean([each.reached for each in reached])
    return (
        f"reached {shares}, labelled {mean([each.labelled for each in reached])}; {len(reached)} of {len(fits)} halves"
    )


def with_mean(intervals: Sequence[Interval]) -> str:
    return f"{show(intervals[0])}; {mean([interval.value for interval in intervals])}"


def mean(values: Sequence[float]) -> str:
    return f"{np.nanmean(values):.3f} ± {np.nanstd(values):.3f}"


def show(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    main()
