"""What the losses on boxes and regions add to the contrastive one: same data, steps and seeds, with and without them.

usage: python tests/benchmarks/grounding_losses.py PICTURES CONFIG [--fold 1] [--seeds 3] [--epochs 3] [--set a.b=c]

PICTURES is the folder that `bash training/starter/fetch_pictures.sh PICTURES` fills, CONFIG a training config with
learned queries such as `configs/train/grain_vitb16_cc3m.yaml` (with anchors, contrastive losses teach nothing). Each
figure is the mean over the seeds with the smallest and largest value; the figures are those of `zero_shot.py`, of the
whole image where regions take no part, with regions elsewhere.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from zero_shot import SCENES, WAYS, Measured, image_sets, load, measure_clutter, measure_set

from recognizer.console import note, table
from recognizer.yaml_settings import load_yaml_settings
from tests.benchmarks.clutter import compose
from training.config import TrainConfig
from training.run import train
from training.starter.pictures import backgrounds, fold, stamps

SETS = ("stamps", "emoji, noto", "gcompris", "demo")
OFF = ["loss.weights.box_l1=0", "loss.weights.box_giou=0", "loss.weights.region_description=0"]
VARIANTS = {
    "contrastive only": [*OFF, "loss.weights.region_weight=0"],
    "+ L_box": ["loss.weights.region_description=0"],
    "+ L_box + L_rd": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()

    sets = [each for each in image_sets(arguments.pictures, arguments.fold) if each.label in SETS]
    shown = [picture for picture in stamps(arguments.pictures) if fold(picture.name) == arguments.fold]
    scenes = compose(shown, backgrounds(arguments.pictures), SCENES, seed=0)

    def measure(encoder_name: str) -> dict[str, Measured]:
        encoder = load(encoder_name, "auto")
        measured: dict[str, Measured] = {way: {} for way in WAYS}
        for image_set in sets:
            measure_set(encoder, image_set, [], measured)
        measure_clutter(encoder, scenes, sets[0].names, [], measured)
        return measured

    runs_of: dict[str, list[dict[str, Measured]]] = {"untrained": [measure("conse")]}
    with tempfile.TemporaryDirectory() as folder:
        for variant, overrides in VARIANTS.items():
            for seed in range(arguments.seeds):
                note(f"training: {variant}, seed {seed}")
                chosen = [*arguments.overrides, *overrides, f"seed={seed}", f"schedule.epochs={arguments.epochs}"]
                config = load_yaml_settings(TrainConfig, arguments.config, chosen)
                result = train(config, Path(folder) / f"{len(runs_of)}-{seed}")
                runs_of.setdefault(variant, []).append(measure(str(result.encoder)))
    print(f"fold {arguments.fold}, {arguments.epochs} epochs, {arguments.seeds} seeds")
    print(report(runs_of))


def report(runs_of: dict[str, list[dict[str, Measured]]]) -> str:
    keys = {(way, *key): None for runs in runs_of.values() for way, measured in runs[0].items() for key in measured}
    rows = [
        [
            label,
            figure,
            way,
            *(spread([float(np.nanmean(run[way][label, figure])) for run in runs]) for runs in runs_of.values()),
        ]
        for way, label, figure in keys
    ]
    return table(["set", "figure", "scored by", *runs_of], rows)


def spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
