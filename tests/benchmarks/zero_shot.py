"""Zero-shot figures on names that were never looked at while anything was chosen.

usage: python tests/benchmarks/zero_shot.py PICTURES [--fold 0] [--model starter] [--pretrained TAG] [--set
score.name=0.3]

PICTURES is the folder that `bash training/fetch_pictures.sh PICTURES` fills. Two sets, names only, all 403 names as
candidates: stamps (photographic cut-outs of the fold's names on white): top-1 and top-5; clutter (200 scenes of 2 to 4
of them on photographs, seed 0): the share of the scenes' objects that are among the first 10 names. Each is given for
the whole image alone and with regions, with bootstrap intervals over images or scenes; the stamps once more without the
names that share their head word (the last one) with a name of another fold.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memory import Category, Memory, best_columns
from recognizer import Encoder, Recognizer
from recognizer.console import table
from recognizer.metrics import truth_ranks
from recognizer.score import Scorer
from recognizer.settings import load_settings
from training.pictures import Picture, backgrounds, fold, on_white, stamps
from training.scenes import Scene, compose

BATCH = 32
SCENES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="0 is held out; choose on 1")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--pretrained")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()

    everything = stamps(arguments.pictures)
    shown = [picture for picture in everything if fold(picture.name) == arguments.fold]
    scenes = compose(shown, backgrounds(arguments.pictures), SCENES, seed=0)
    encoder = Encoder.load(arguments.model, arguments.pretrained, precision=arguments.precision)
    with tempfile.TemporaryDirectory() as folder:
        names = dict.fromkeys(picture.name for picture in everything)
        Memory.build([Category(n) for n in names], folder, encoder=encoder, templates=encoder.default_templates)
        recognizer = Recognizer(encoder, Memory.open(folder), settings=load_settings(overrides=arguments.overrides))
        score = recognizer.settings.score
        scorers = {
            "whole image": Scorer(recognizer.memory.vectors, score.only("name")),
            "with regions": Scorer(recognizer.memory.vectors, score),
        }
        rows = [*measure_stamps(recognizer, scorers, shown, everything), *measure_clutter(recognizer, scorers, scenes)]
    print(f"{encoder.card.name}, fold {arguments.fold}, {len(names)} names, {encoder.precision}")
    print(table(["set", "figure", *scorers], rows))


def measure_stamps(
    recognizer: Recognizer, scorers: dict[str, Scorer], shown: Sequence[Picture], everything: Sequence[Picture]
) -> list[list[str]]:
    row_of = {category.name: row for row, category in enumerate(recognizer.memory.vectors.categories)}
    truth = np.array([row_of[picture.name] for picture in shown])
    ranks = {name: [] for name in scorers}
    for start in range(0, len(shown), BATCH):
        features = recognizer.encoder.encode_images([on_white(picture) for picture in shown[start : start + BATCH]])
        for name, scorer in scorers.items():
            ranks[name].append(truth_ranks(scorer.score(features), truth[start : start + BATCH]))
    heads = {head_word(picture.name) for picture in everything if fold(picture.name) != fold(shown[0].name)}
    alone = np.array([head_word(picture.name) not in heads for picture in shown])
    lines = []
    for label, keep in (("stamps", np.ones(len(shown), bool)), ("stamps, head word of no other fold", alone)):
        for limit in (1, 5):
            hits = [np.concatenate(ranks[name])[keep] <= limit for name in scorers]
            lines.append([f"{label} ({keep.sum()})", f"top-{limit}", *(with_interval(hit[:, None]) for hit in hits)])
    return lines


def measure_clutter(recognizer: Recognizer, scorers: dict[str, Scorer], scenes: Sequence[Scene]) -> list[list[str]]:
    row_of = {category.name: row for row, category in enumerate(recognizer.memory.vectors.categories)}
    found = {name: [] for name in scorers}
    for start in range(0, len(scenes), BATCH):
        batch = scenes[start : start + BATCH]
        features = recognizer.encoder.encode_images([scene.image for scene in batch])
        for name, scorer in scorers.items():
            for scene, best in zip(batch, best_columns(scorer.score(features), 10), strict=True):
                found[name].append([row_of[wanted] in best for wanted in scene.names])
    width = max(len(scene.names) for scene in scenes)
    padded = [np.array([h + [np.nan] * (width - len(h)) for h in hits], float) for hits in found.values()]
    return [[f"clutter ({len(scenes)} scenes)", "recall@10", *(with_interval(hits) for hits in padded)]]


def with_interval(hits: np.ndarray) -> str:
    """Mean over all hits that are no NaN; rows are resampled for the 95 % interval."""
    picks = np.random.default_rng(0).integers(len(hits), size=(2000, len(hits)))
    low, high = np.quantile(np.nanmean(hits[picks].astype(float), axis=(1, 2)), (0.025, 0.975))
    return f"{np.nanmean(hits.astype(float)):.3f} [{low:.3f}, {high:.3f}]"


def head_word(name: str) -> str:
    """The last word of a name without what stands in brackets."""
    words = name.split("(")[0].split()
    return words[-1].casefold() if words else name


if __name__ == "__main__":
    main()
