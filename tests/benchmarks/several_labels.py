"""Several labels for one image: which number should be bounded to find all objects of a scene.

usage: python tests/benchmarks/several_labels.py PICTURES [--precision fp32]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. The scenes are those of `zero_shot.py`: 200 of 2
to 4 cut-outs on photographs, among 403 names. One bound holds for all scenes, as in `recognizer run --all-above`, so
average precision is over all pairs of scene and name, ordered by each number:

- score: the score of the image, which `run` ranks by
- confidence: its softmax over the names
- region cosine: the cosine of the name and the region nearest to it
- presence: the largest probability of the name in a region, by `recognizer.presence`

F1, precision and recall are those at the bound that is best on fold 1, so that those on fold 0 are held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.console import table
from recognizer.presence import PresenceScorer
from recognizer.score import log_normaliser
from tests.benchmarks.clutter import compose
from tests.benchmarks.zero_shot import SCENES, encoded, load, prepare
from training.starter.pictures import backgrounds, fold, stamps

Numbers = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    truth, numbers = {}, {}
    for number in (1, 0):
        truth[number], numbers[number] = measure(arguments.pictures, number, arguments.precision)
    rows = []
    for kind, chosen in numbers[1].items():
        bound = best_bound(truth[1], chosen)
        for number in (1, 0):
            values = numbers[number][kind]
            figures = (average_precision(truth[number], values), *at_bound(truth[number], values, bound))
            rows.append([kind, str(number), f"{bound:.3f}", *(f"{figure:.3f}" for figure in figures)])
    print(table(["number", "fold", "bound", "average precision", "F1", "precision", "recall"], rows))


def measure(pictures: Path, number: int, precision: str) -> tuple[NDArray[np.bool_], dict[str, Numbers]]:
    """Return (scenes, names) what the scenes of a fold show, and the numbers to choose from."""
    everything = stamps(pictures)
    recognizer, _ = prepare(load("grounded", precision), list(dict.fromkeys(p.name for p in everything)), [])
    row_of = {category.name: row for row, category in enumerate(recognizer.memory.vectors.categories)}
    shown = [picture for picture in everything if fold(picture.name) == number]
    scenes = compose(shown, backgrounds(pictures), SCENES, seed=0)
    truth = np.zeros((len(scenes), len(row_of)), bool)
    for scene, row in zip(scenes, truth, strict=True):
        row[[row_of[name] for name in scene.names]] = True
    temperature = recognizer.encoder.default_temperature
    presence = PresenceScorer(recognizer.scorer, temperature)
    numbers: dict[str, list[Numbers]] = {"score": [], "confidence": [], "region cosine": [], "presence": []}
    for features in encoded(recognizer.encoder, [scene.image for scene in scenes]):
        scores = recognizer.scorer.score(features)
        similar = recognizer.scorer.similarities(features)
        numbers["score"].append(scores.astype(float))
        numbers["confidence"].append(np.exp(scores / temperature - log_normaliser(scores, temperature)[:, None]))
        numbers["region cosine"].append(similar.region_name.astype(float))
        chances = np.zeros(scores.shape)
        for image in range(len(features)):
            for row, chance, _ in presence.at_least(features.take(image), 1e-12):
                chances[image, row] = chance
        numbers["presence"].append(chances)
    return truth, {kind: np.concatenate(parts) for kind, parts in numbers.items()}


def average_precision(truth: NDArray[np.bool_], values: Numbers) -> float:
    hits = truth.ravel()[np.argsort(-values.ravel(), kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, hits.size + 1)
    return float(precision[hits].mean())


def at_bound(truth: NDArray[np.bool_], values: Numbers, bound: float) -> tuple[float, float, float]:
    """Return F1, precision and recall of the pairs whose number reaches a bound."""
    found = values >= bound
    hits = int((found & truth).sum())
    return 2 * hits / int(found.sum() + truth.sum()), hits / max(int(found.sum()), 1), hits / int(truth.sum())


def best_bound(truth: NDArray[np.bool_], values: Numbers) -> float:
    """Return the number with the best F1 as bound."""
    order = np.argsort(-values.ravel(), kind="stable")
    hits = np.cumsum(truth.ravel()[order])
    scores = 2 * hits / (np.arange(1, hits.size + 1) + truth.sum())
    return float(values.ravel()[order[int(scores.argmax())]])


if __name__ == "__main__":
    main()
