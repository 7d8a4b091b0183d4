"""What corrections are worth, in the order of `review` and in a random one.

usage: python tests/benchmarks/corrections.py PICTURES [--fold 1] [--sets gcompris costumes] [--plot curve.png]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. A folder is recognised by names alone; then 0,
10, 50, 100 and 200 images are corrected, and the memory learns from them as `recognizer learn` teaches it. Counted are
the right labels of the whole folder, corrected images among them, and those of the images that nobody looked at. Emoji
are those of the fold in four styles; names of stamps compete with all others.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category, ExemplarSet, Memory
from recognizer import Encoder
from recognizer.console import note, table
from recognizer.corrections.learn import with_exemplars
from recognizer.corrections.queue import review_order
from recognizer.encoder import ImageFeatures
from recognizer.exemplars import chosen_settings
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.benchmarks.unknown import IN_FOLDS, READERS
from tests.benchmarks.zero_shot import encoded
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, fold, on_white

COUNTS = (0, 10, 50, 100, 200)
RANDOM_ORDERS = 10
SETS = ("gcompris", "costumes", "stamps", "emoji")
Rows = NDArray[np.int64]


def pictures(root: Path, label: str, fold_number: int) -> tuple[list[Picture], list[str]]:
    """Return the pictures of a folder, and the names that compete."""
    if label == "emoji":
        shown = [picture for style in STYLES for picture in emoji(root, style) if fold(picture.name) == fold_number]
        return shown, list(dict.fromkeys(picture.name for picture in shown))
    everything = READERS[label](root)
    shown = [picture for picture in everything if label not in IN_FOLDS or fold(picture.name) == fold_number]
    return shown, list(dict.fromkeys(picture.name for picture in everything))


class Folder:
    """An encoded folder with its truth, and a memory of the names."""

    def __init__(self, encoder: Encoder, shown: list[Picture], names: list[str], directory: Path) -> None:
        self.features = ImageFeatures.concatenate(list(encoded(encoder, [on_white(picture) for picture in shown])))
        memory = Memory.build(map(Category, names), directory, encoder=encoder, templates=encoder.default_templates)
        self.vectors = memory.vectors
        rows = {category.name: row for row, category in enumerate(self.vectors.categories)}
        self.truth = np.array([rows[picture.name] for picture in shown])
        self.temperature = encoder.default_temperature
        self.first = self.scores(np.zeros(0, np.int64))

    def scores(self, corrected: Rows) -> NDArray[np.float32]:
        """Score the folder after some of its images were corrected."""
        vectors = with_exemplars(
            self.vectors,
            ExemplarSet(
                [self.vectors.categories[row].id for row in self.truth[corrected]],
                [str(image) for image in corrected],
                [str(image) for image in corrected],
                self.features.image[corrected],
            ),
        )
        settings = ScoreSettings().model_copy(update=chosen_settings(vectors))
        return Scorer(vectors, settings).score(self.features)

    def order(self) -> Rows:
        """Return the order of `review`."""
        scaled = np.sort(self.first.astype(np.float64), 1)[:, ::-1] / self.temperature
        shares = np.exp(scaled - scaled[:, :1])
        shares /= shares.sum(1, keepdims=True)
        return review_order(self.features.image, shares[:, 0] - shares[:, 1])

    def curve(self, order: Rows) -> list[tuple[float, float]]:
        """Return the right share of the whole folder and of the rest of it, for each of `COUNTS`."""
        points = []
        for count in COUNTS:
            right = (self.scores(order[:count]) if count else self.first).argmax(1) == self.truth
            rest = right[order[count:]].mean() if count < len(order) else 1.0
            right[order[:count]] = True
            points.append((float(right.mean()), float(rest)))
        return points


def plot(curves: dict[str, dict[str, list[tuple[float, float]]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(curves), 3.2), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, (label, by_order) in zip(axes, curves.items(), strict=True):
        for order, points in by_order.items():
            axis.plot(COUNTS, [whole for whole, _ in points], marker="o", label=order)
        axis.set(title=label, xlabel="corrections", ylim=(0, 1))
    axes[0].set_ylabel("right labels of the folder")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument(
        "--fold", type=int, default=1, help="of stamps and emoji; 0 is held out, choices were made on 1"
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--plot", type=Path, help="PNG of the curves")
    arguments = parser.parse_args()
    encoder = Encoder.load("starter")
    lines, curves = [], {}
    for label in arguments.sets:
        note(f"encoding {label}")
        shown, names = pictures(arguments.pictures, label, arguments.fold)
        with tempfile.TemporaryDirectory() as directory:
            folder = Folder(encoder, shown, names, Path(directory) / "memory")
        draws = [folder.curve(np.random.default_rng(seed).permutation(len(shown))) for seed in range(RANDOM_ORDERS)]
        by_order = {"review": folder.curve(folder.order()), "random": np.mean(draws, axis=0).tolist()}
        curves[label] = by_order
        for order, points in by_order.items():
            whole, rest = (" ".join(f"{point[side]:.3f}" for point in points) for side in (0, 1))
            lines.append([f"{label} ({len(shown)})" if order == "review" else "", order, whole, rest])
    shown_counts = ", ".join(map(str, COUNTS))
    print(f"fold {arguments.fold}; right labels after {shown_counts} corrections")
    print(table(["folder", "order", "whole folder", "images not looked at"], lines))
    if arguments.plot:
        plot(curves, arguments.plot)


if __name__ == "__main__":
    main()
