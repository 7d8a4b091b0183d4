"""How well images of none of the names are told from images of them, without labelled images.

usage: python tests/benchmarks/unknown.py PICTURES [--fold 1] [--draws 20] [--sets stamps gcompris]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. From the names of a set (stamps and emoji: those
of the fold, where all other names stay in the memory) half are taken out, in several draws; their pictures are then
unknown. The starter was trained on the pictures of qabcs and costumes, whose names are in no fold.

- AUROC and FPR95 (share of unknown pictures that are kept where 95 % of the known ones are) of the confidence of the
  best category (max-softmax), of the margin of the two best and of the rule by negative labels; means over the draws,
  95 % bootstrap intervals over pictures.
- the threshold at a rate of 5 %: fitted on half of the known pictures, used on the rest; and fitted on pictures of the
  same names of another set (`from`). Shares of known and of unknown pictures that are called unknown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category, Memory, NegativeLabels
from memory.vectors import MemoryVectors
from recognizer import Encoder
from recognizer.calibration.figures import auroc
from recognizer.console import note, table
from recognizer.encoder import ImageFeatures
from recognizer.evaluation.metrics import bootstrap
from recognizer.score import Scorer, log_normaliser
from recognizer.settings import ScoreSettings
from recognizer.unknown.mining import choose, negative_labels
from recognizer.unknown.rule import NegativesRule
from recognizer.unknown.settings import UnknownSettings
from tests.benchmarks.gcompris import gcompris
from tests.benchmarks.zero_shot import encoded
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, costumes, fold, on_white, qabcs, stamps

RESAMPLES = 300  # of a mean over draws, which takes a while
WAYS = ("max-softmax", "margin", "negatives")
READERS: dict[str, Callable[[Path], list[Picture]]] = {
    "stamps": stamps,
    "qabcs": qabcs,
    "costumes": costumes,
    "gcompris": gcompris,
    **{f"emoji {style}": lambda root, style=style: emoji(root, style) for style in STYLES},
}
IN_FOLDS = ("stamps", *(label for label in READERS if label.startswith("emoji")))
SOURCES = {"stamps": "qabcs", **{f"emoji {style}": f"emoji {STYLES[0]}" for style in STYLES[1:]}}
"""By set, the one whose pictures of the same names a threshold is fitted on."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures and all names of their set."""

    features: ImageFeatures
    truth: NDArray[np.str_]
    names: Sequence[str]


@dataclass(frozen=True)
class Draw:
    """Scores of N pictures after names were taken out; known: whether the name of each is still in the memory."""

    known: NDArray[np.bool_]
    scores: dict[str, Doubles]
    rule: NegativesRule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="0 is held out; choose on 1")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--sets", nargs="+", choices=READERS, default=list(READERS), help="default: all")
    arguments = parser.parse_args()
    encoder = Encoder.load("starter")
    rows, rates = [], []
    directory = tempfile.mkdtemp()  # of one memory after the other, so that the negative labels are encoded once
    read: dict[str, Pictures] = {}
    for label in arguments.sets:
        for needed in dict.fromkeys((SOURCES.get(label, label), label)):
            if needed not in read:
                note(f"encoding {needed}")
                read[needed] = read_set(encoder, arguments.pictures, needed, arguments.fold)
        draws = list(drawn(encoder, read[label], arguments.draws, directory))
        rows.append([f"{label} ({len(read[label].truth)})", *figures(draws)])
        rates.append([label, *shares(draws, read[label], read.get(SOURCES.get(label, "")))])
    print(f"fold {arguments.fold}, {arguments.draws} draws; AUROC, FPR95")
    print(table(["set", *WAYS, "AUROC, negatives - max-softmax"], rows))
    print()
    print("threshold at 5 %: called unknown of the known pictures, of the unknown ones")
    print(table(["set", "fitted on half", "fitted on another set", "from"], rates))


def read_set(encoder: Encoder, root: Path, label: str, fold_number: int) -> Pictures:
    everything = READERS[label](root)
    shown = [picture for picture in everything if label not in IN_FOLDS or fold(picture.name) == fold_number]
    features = ImageFeatures.concatenate(list(encoded(encoder, [on_white(picture) for picture in shown])))
    names = list(dict.fromkeys(picture.name for picture in everything))
    return Pictures(features, np.array([picture.name for picture in shown]), names)


def drawn(encoder: Encoder, pictures: Pictures, draws: int, directory: str) -> Iterator[Draw]:
    """Take half of the shown names out of the memory, again and again."""
    names = negative_labels().names
    candidates = NegativeLabels(names, lambda _: np.ones(len(names), bool))
    memory = Memory.build(
        [Category(name) for name in pictures.names],
        directory,
        encoder=encoder,
        templates=encoder.default_templates,
        negatives=candidates,
    )
    everything, shown = memory.vectors, np.unique(pictures.truth)
    for seed in range(draws):
        taken = np.random.default_rng(seed).permutation(shown)[: len(shown) // 2].tolist()
        kept = np.array([row for row, each in enumerate(everything.categories) if each.name not in set(taken)])
        vectors = with_negatives(everything.take(kept))
        rule = NegativesRule(vectors, UnknownSettings(), encoder.default_temperature)
        scores = Scorer(vectors, ScoreSettings()).score(pictures.features)
        normaliser = log_normaliser(scores, encoder.default_temperature)
        best = np.exp(-np.sort(-scores, axis=1)[:, :2] / encoder.default_temperature - normaliser[:, None])
        ways = (best[:, 0], best[:, 0] - best[:, 1], rule.measure(pictures.features.image).scores)
        yield Draw(~np.isin(pictures.truth, taken), dict(zip(WAYS, ways, strict=True)), rule)


def with_negatives(vectors: MemoryVectors) -> MemoryVectors:
    """Choose the negative labels for the categories that are left."""
    chosen = np.flatnonzero(choose(vectors.categories))
    names = [vectors.negative_names[row] for row in chosen]
    return replace(vectors, negatives=vectors.negatives[chosen], negative_names=names)


def figures(draws: Sequence[Draw]) -> Iterator[str]:
    def mean(figure: Callable[[Doubles, NDArray[np.bool_]], float], way: str, images: NDArray[np.int64]) -> float:
        return float(np.mean([figure(draw.scores[way][images], draw.known[images]) for draw in draws]))

    count = len(draws[0].known)
    for way in WAYS:
        yield ", ".join(
            interval(lambda images, way=way, figure=figure: mean(figure, way, images), count)
            for figure in (auroc, fpr95)
        )
    yield interval(lambda images: mean(auroc, WAYS[2], images) - mean(auroc, WAYS[0], images), count)


def fpr95(scores: Doubles, known: NDArray[np.bool_]) -> float:
    return float((scores[~known] >= np.quantile(scores[known], 0.05)).mean())


def shares(draws: Sequence[Draw], pictures: Pictures, source: Pictures | None) -> Iterator[str]:
    """Shares of known and of unknown pictures that are called unknown, under thresholds fitted in two ways."""
    half, other = [], []
    for seed, draw in enumerate(draws):
        scores = draw.scores["negatives"]
        known = np.random.default_rng(seed).permutation(np.flatnonzero(draw.known))
        fit, rest = known[: len(known) // 2], known[len(known) // 2 :]
        half.append(called(draw.rule, pictures.features.image[fit], scores[rest], scores[~draw.known]))
        if source is not None:
            same = np.isin(source.truth, pictures.truth[draw.known])
            other.append(called(draw.rule, source.features.image[same], scores[draw.known], scores[~draw.known]))
    yield mean_shares(half)
    yield mean_shares(other)
    yield "" if source is None else f"{len(source.truth)} pictures, about half of them used"


def called(rule: NegativesRule, fit: NDArray[np.float32], *scores: Doubles) -> list[float]:
    fitted = rule.fit(fit)
    return [np.nan] * len(scores) if fitted is None else [float((each < fitted.threshold).mean()) for each in scores]


def mean_shares(pairs: Sequence[Sequence[float]]) -> str:
    usable = [pair for pair in pairs if np.isfinite(pair).all()]
    return ", ".join(f"{share:.3f}" for share in np.mean(usable, axis=0)) if usable else ""


def interval(figure: Callable[[NDArray[np.int64]], float], count: int) -> str:
    measured = bootstrap(figure, count, resamples=RESAMPLES)
    return f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}]"


if __name__ == "__main__":
    main()
