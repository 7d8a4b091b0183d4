"""Zero-shot figures on names that no choice was made on, for several encoders side by side.

usage: python tests/benchmarks/zero_shot.py PICTURES [--fold 0] [--encoders conse grounded] [--sets stamps clutter]
                                            [--set score.image_name=0.3]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. Encoders are `conse` and `grounded` (the
starter before and after training) or files that training wrote. Sets, by names alone:

- stamps: photographic cut-outs of the fold's names on white, once more without the names that share their head word
  (the last one) with a name of another fold
- emoji: drawings of the fold's names, in four styles
- clutter: 200 scenes of 2 to 4 of the stamps on photographs (seed 0): the share of the scenes' objects that are among
  the first 10 of the 403 names, and the mean overlap of an object's box with that of the region that names it, over the
  objects recalled
- gcompris: photographs of monuments, animals, tools and things at home; nothing was trained on them
- demo: the photographs that ship with the package, of things that no picture package was chosen for

"all names" ranks among the names of all folds, "fold's names" among those of the fold. Each figure has a 95 % bootstrap
interval over images or scenes; the last column is the paired difference of the last column before it and the first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from memory import Category, Memory, read_labels
from memory.index import best_columns
from recognizer import Encoder, Recognizer
from recognizer.console import note, table
from recognizer.demo import DATA
from recognizer.encoder import ImageFeatures
from recognizer.encoder.boxes import pairwise_iou
from recognizer.evaluation.metrics import truth_ranks
from recognizer.score import Scorer
from recognizer.settings import load_settings
from tests.benchmarks.clutter import Scene, compose
from tests.benchmarks.gcompris import gcompris
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, backgrounds, fold, on_white, stamps

BATCH = 32
SCENES = 200
DEMO = {
    "astronaut": "astronaut",
    "bricks": "brick wall",
    "cameraman": "photographer",
    "cat": "tabby cat",
    "clock": "wall clock",
    "coffee": "cup of coffee",
    "coins": "ancient coins",
    "deep-field": "galaxies",
    "grass": "lawn",
    "gravel": "gravel",
    "retina": "human retina",
    "rocket": "rocket launch",
}
WAYS = ("whole image", "with regions")
SETS = ("stamps", "emoji", "clutter", "gcompris", "demo")

Hits = NDArray[np.float64]
Measured = dict[tuple[str, str], Hits]
"""By set and figure: a row per image or scene, NaN where there is nothing to count."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures, each of one thing, and the names to choose from."""

    label: str
    images: Sequence[Image.Image]
    truth: Sequence[str]
    names: Sequence[str]
    known_heads: frozenset[str] = frozenset()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="0 is held out; choose on 1")
    parser.add_argument("--encoders", nargs="+", default=["conse", "grounded"])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="default: all")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()

    sets = [
        image_set
        for image_set in image_sets(arguments.pictures, arguments.fold)
        if image_set.label.split(",")[0] in arguments.sets
    ]
    everything = stamps(arguments.pictures)
    shown = [picture for picture in everything if fold(picture.name) == arguments.fold]
    with_clutter = "clutter" in arguments.sets
    scenes = compose(shown, backgrounds(arguments.pictures), SCENES, seed=0) if with_clutter else []
    names = list(dict.fromkeys(picture.name for picture in everything))
    columns: dict[str, Measured] = {}
    for name in arguments.encoders:
        note(f"measuring {name}")
        encoder = load(name, arguments.precision)
        measured: dict[str, Measured] = {way: {} for way in WAYS}
        for image_set in sets:
            measure_set(encoder, image_set, arguments.overrides, measured)
        if scenes:
            measure_clutter(encoder, scenes, names, arguments.overrides, measured)
        columns |= {f"{name}, {way}": figures for way, figures in measured.items()}
    print(f"fold {arguments.fold}")
    print(report(columns))


def load(name: str, precision: str) -> Encoder:
    if name.endswith(".safetensors"):
        return Encoder.load(name, precision=precision)
    return Encoder.load("starter", name, precision=precision)


def image_sets(root: Path, fold_number: int) -> Iterator[ImageSet]:
    yield of_pictures("stamps", stamps(root), fold_number)
    for style in STYLES:
        yield of_pictures(f"emoji, {style}", emoji(root, style), fold_number)
    photographs = gcompris(root)
    names = list(dict.fromkeys(picture.name for picture in photographs))
    yield ImageSet("gcompris", [on_white(picture) for picture in photographs], [p.name for p in photographs], names)
    names = [category.name for category in read_labels(DATA / "labels.json")]
    images = [Image.open(DATA / "photos" / f"{photograph}.jpg").convert("RGB") for photograph in DEMO]
    yield ImageSet("demo", images, list(DEMO.values()), names)


def of_pictures(label: str, everything: Sequence[Picture], fold_number: int) -> ImageSet:
    shown = [picture for picture in everything if fold(picture.name) == fold_number]
    heads = frozenset(head_word(picture.name) for picture in everything if fold(picture.name) != fold_number)
    names = list(dict.fromkeys(picture.name for picture in everything))
    return ImageSet(label, [on_white(picture) for picture in shown], [p.name for p in shown], names, heads)


def measure_set(encoder: Encoder, images: ImageSet, overrides: Sequence[str], measured: dict[str, Measured]) -> None:
    recognizer, scorers = prepare(encoder, images.names, overrides)
    row_of = {category.name: row for row, category in enumerate(recognizer.memory.vectors.categories)}
    truth = np.array([row_of[name] for name in images.truth])
    own = np.unique(truth)
    apart = np.array([head_word(name) not in images.known_heads for name in images.truth])
    for way, scorer in scorers.items():
        scores = np.concatenate([scorer.score(features) for features in encoded(encoder, images.images)])
        ranks = truth_ranks(scores, truth)
        among_own = truth_ranks(scores[:, own], np.searchsorted(own, truth))
        figures = {"all names, top-1": ranks <= 1, "all names, top-5": ranks <= 5}
        if len(own) < len(row_of):
            figures["fold's names, top-1"] = among_own <= 1
        for figure, hits in figures.items():
            measured[way][f"{images.label} ({len(truth)})", figure] = hits[:, None].astype(float)
            if images.label == "stamps":
                label = f"stamps, head word of no other fold ({apart.sum()})"
                measured[way][label, figure] = hits[apart, None].astype(float)


def measure_clutter(
    encoder: Encoder,
    scenes: Sequence[Scene],
    names: Sequence[str],
    overrides: Sequence[str],
    measured: dict[str, Measured],
) -> None:
    recognizer, scorers = prepare(encoder, names, overrides)
    row_of = {category.name: row for row, category in enumerate(recognizer.memory.vectors.categories)}
    width = max(len(scene.names) for scene in scenes)
    features = list(encoded(encoder, [scene.image for scene in scenes]))
    label = f"clutter ({len(scenes)} scenes)"
    for way, scorer in scorers.items():
        best = [row for part in features for row in best_columns(scorer.score(part), 10)]
        recalled = np.full((len(scenes), width), np.nan)
        overlaps = np.full((len(scenes), width), np.nan)
        for number, scene in enumerate(scenes):
            own = features[number // BATCH].take(number % BATCH)
            for place, (name, box) in enumerate(zip(scene.names, scene.boxes_xyxy, strict=True)):
                recalled[number, place] = row_of[name] in best[number]
                if recalled[number, place]:
                    overlaps[number, place] = named_box_overlap(recognizer, own, row_of[name], box)
        measured[way][label, "recall@10"] = recalled
        if way == WAYS[1]:
            measured[way][label, "box overlap (IoU)"] = overlaps


def named_box_overlap(recognizer: Recognizer, image: ImageFeatures, row: int, box_xyxy: Sequence[int]) -> float:
    """IoU of a box with that of the region nearest to a name."""
    usable = image.region_weight[0] >= recognizer.settings.score.region_threshold
    similarity = image.regions[0] @ recognizer.memory.vectors.names[row]
    region = int(np.where(usable | ~usable.any(), similarity, -2).argmax())
    own, true = (torch.tensor(box, dtype=torch.float64)[None] for box in (image.boxes_xyxy[0, region], box_xyxy))
    return float(pairwise_iou(own, true))


def prepare(encoder: Encoder, names: Sequence[str], overrides: Sequence[str]) -> tuple[Recognizer, dict[str, Scorer]]:
    categories = [Category(name) for name in names]
    memory = Memory.build(categories, tempfile.mkdtemp(), encoder=encoder, templates=encoder.default_templates)
    recognizer = Recognizer(encoder, memory, settings=load_settings(overrides=overrides))
    score, vectors = recognizer.settings.score, recognizer.memory.vectors
    return recognizer, dict(zip(WAYS, (Scorer(vectors, score.only("image_name")), Scorer(vectors, score)), strict=True))


def encoded(encoder: Encoder, images: Sequence[Image.Image]) -> Iterator[ImageFeatures]:
    for start in range(0, len(images), BATCH):
        yield encoder.encode_images(images[start : start + BATCH])


def report(columns: dict[str, Measured]) -> str:
    first, *_, last = columns.values()
    keys = {key: None for measured in columns.values() for key in measured}
    rows = []
    for label, figure in keys:
        cells = [with_interval(each[label, figure]) if (label, figure) in each else "" for each in columns.values()]
        paired = (label, figure) in first and (label, figure) in last and "IoU" not in figure
        rows.append(
            [label, figure, *cells, with_interval(last[label, figure] - first[label, figure]) if paired else ""]
        )
    return table(["set", "figure", *columns, "last - first"], rows)


def with_interval(hits: Hits) -> str:
    """Mean over all hits that are not NaN; rows are resampled for the 95 % interval."""
    picks = np.random.default_rng(0).integers(len(hits), size=(2000, len(hits)))
    low, high = np.quantile(np.nanmean(hits[picks], axis=(1, 2)), (0.025, 0.975))
    return f"{np.nanmean(hits):.3f} [{low:.3f}, {high:.3f}]"


def head_word(name: str) -> str:
    """The last word of a name without what stands in brackets."""
    words = name.split("(")[0].split()
    return words[-1].casefold() if words else name


if __name__ == "__main__":
    main()
