"""Corrections of a whole folder's answers, and a prior of the user, where all, few or one of the names are present.

usage: python tests/benchmarks/priors.py PICTURES [--fold 0] [--draws 10]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. Names are those of the fold, except in GCompris,
on which nothing was trained. Top-1 accuracy of the starter's score by names, with regions, in three kinds of folder:

- all: all names of the fold are present, and they are the labels
- 20 names: the pictures of 20 names, drawn anew for each draw, among the names of all folds
- one name: the pictures of one name, for each name of the fold, among the names of all folds

Beside the plain answer, each with the paired difference to it:

- StatA: a joint pass over the folder (arXiv 2501.03729), written from its description. Categories are Gaussians with
  diagonal covariance, anchored to the text: their means and variances are those of the pictures that are assigned to
  them, averaged with those of the text as if that were `ANCHOR` pictures more. An assignment follows the zero-shot
  answer, the Gaussians, and the assignments of the nearest neighbours. These sets have 1 to 4 pictures of a name.
- uniform: log of each category's mean confidence over the folder is taken off, so that all are equally frequent
- prior, right and wrong: the present names, or as many others, are said to be 10 times as common as the rest
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.console import note, table
from tests.benchmarks.gcompris import gcompris
from tests.benchmarks.zero_shot import WAYS, encoded, load, prepare, with_interval
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, fold, on_white, stamps

PRESENT = 20
TIMES_AS_COMMON = 10
# Constants of the paper.
ANCHOR = 1.0
NEIGHBOURS = 3
OUTER, INNER = 10, 5

Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
FOLDERS = ("all", f"{PRESENT} names", "one name")


@dataclass(frozen=True)
class PictureSet:
    """Encoded pictures: unit vectors (N, D), logits score / T (N, C), unit names (C, D) and true columns (N,)."""

    images: Doubles
    logits: Doubles
    names: Doubles
    truth: Rows


@dataclass(frozen=True)
class Folder:
    """Some pictures of a set, and the columns that are labels."""

    pictures: PictureSet
    present: Rows
    wrong: Rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--draws", type=int, default=10, help="folders of 20 names")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    rows = []
    for label, everything, whole in picture_sets(arguments.pictures):
        note(f"encoding {label}")
        shown = [picture for picture in everything if whole or fold(picture.name) == arguments.fold]
        names = list(dict.fromkeys(picture.name for picture in everything))
        pictures = encode(shown, names, arguments.precision)
        for kind in FOLDERS:
            note(f"{label}, {kind}")
            hits: dict[str, list[Doubles]] = {way: [] for way in ANSWERS}
            for folder in folders(pictures, kind, arguments.draws):
                for way, answer in ANSWERS.items():
                    best = answer(folder).argmax(axis=1)
                    hits[way].append((best == folder.pictures.truth).astype(float))
            joined = {way: np.concatenate(parts)[:, None] for way, parts in hits.items()}
            plain = joined["zero-shot"]
            shares = [with_interval(plain), *(with_interval(joined[way] - plain) for way in list(ANSWERS)[1:])]
            rows.append([f"{label} ({len(shown)} pictures, {len(names)} names)", kind, str(len(plain)), *shares])
    print(table(["set", "present", "answers", *ANSWERS], rows))


def picture_sets(root: Path) -> Iterator[tuple[str, list[Picture], bool]]:
    yield "stamps", stamps(root), False
    yield "emoji, four styles", [picture for style in STYLES for picture in emoji(root, style)], False
    yield "gcompris", gcompris(root), True


def encode(shown: list[Picture], names: list[str], precision: str) -> PictureSet:
    recognizer, scorers = prepare(load("grounded", precision), names, [])
    features = list(encoded(recognizer.encoder, [on_white(picture) for picture in shown]))
    scores = np.concatenate([scorers[WAYS[1]].score(part) for part in features])
    vectors = recognizer.memory.vectors
    row_of = {category.name: row for row, category in enumerate(vectors.categories)}
    return PictureSet(
        images=np.concatenate([part.image for part in features]).astype(np.float64),
        logits=scores.astype(np.float64) / recognizer.encoder.default_temperature,
        names=np.asarray(vectors.names, np.float64),
        truth=np.array([row_of[picture.name] for picture in shown]),
    )


def folders(pictures: PictureSet, kind: str, draws: int) -> Iterator[Folder]:
    rng = np.random.default_rng(0)
    own = np.unique(pictures.truth)
    if kind == FOLDERS[0]:
        truth = np.searchsorted(own, pictures.truth)
        every = PictureSet(pictures.images, pictures.logits[:, own], pictures.names[own], truth)
        yield Folder(every, np.arange(len(own)), rng.permutation(len(own))[:PRESENT])
        return
    present = [rng.choice(own, PRESENT, replace=False) for _ in range(draws)] if kind == FOLDERS[1] else own[:, None]
    for names in present:
        keep = np.isin(pictures.truth, names)
        others = np.setdiff1d(np.arange(len(pictures.names)), names)
        some = PictureSet(pictures.images[keep], pictures.logits[keep], pictures.names, pictures.truth[keep])
        yield Folder(some, names, rng.choice(others, len(names), replace=False))


def softmax(logits: Doubles) -> Doubles:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def uniform(folder: Folder) -> Doubles:
    logits = folder.pictures.logits
    return logits - np.log(softmax(logits).mean(axis=0))


def with_prior(folder: Folder, common: Rows) -> Doubles:
    prior = np.ones(len(folder.pictures.names))
    prior[common] = TIMES_AS_COMMON
    return folder.pictures.logits + np.log(prior)


def stat_a(folder: Folder) -> Doubles:
    """Return the assignments (N, C) of the joint pass."""
    images, texts = folder.pictures.images, folder.pictures.names
    first = softmax(folder.pictures.logits)
    similar = images @ images.T
    np.fill_diagonal(similar, -np.inf)
    neighbours = min(NEIGHBOURS, len(images) - 1)
    affinity = np.zeros_like(similar)
    for row, own in enumerate(np.argsort(-similar, axis=1)[:, :neighbours]):
        affinity[row, own] = np.maximum(similar[row, own], 0)
    means = texts
    # One covariance for the anchors of all categories: how far pictures are from the texts they are assigned to.
    spread = sum(first[:, k] @ (images - texts[k]) ** 2 for k in range(len(texts))) / len(images)
    variances = np.broadcast_to(spread, texts.shape)
    assigned = first
    for _ in range(OUTER):
        likelihood = -0.5 * (
            images**2 @ (1 / variances).T
            - 2 * images @ (means / variances).T
            + (means**2 / variances + np.log(variances)).sum(axis=1)
        )
        for _ in range(INNER):
            assigned = softmax(np.log(first + 1e-30) + likelihood + affinity @ assigned)
        counts = assigned.sum(axis=0)[:, None]
        trust = counts / (ANCHOR + counts)
        centres = assigned.T @ images / np.maximum(counts, 1e-12)
        means = trust * centres + (1 - trust) * texts
        around = assigned.T @ images**2 / np.maximum(counts, 1e-12) - 2 * means * centres + means**2
        variances = trust * around + (1 - trust) * (spread + (texts - means) ** 2)
    return assigned


ANSWERS: dict[str, Callable[[Folder], Doubles]] = {
    "zero-shot": lambda folder: folder.pictures.logits,
    "StatA": stat_a,
    "uniform": uniform,
    "prior, right": lambda folder: with_prior(folder, folder.present),
    "prior, wrong": lambda folder: with_prior(folder, folder.wrong),
}


if __name__ == "__main__":
    main()
