"""Few-shot heads by the number of exemplars and their share of the names, and what fitting and using them costs.

usage: python tests/benchmarks/heads.py [PICTURES] [--fold 0]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills; without it only times are measured, on made-up
vectors. Sets, each among the names of its fold (stamps: all 403 names):

- emoji: exemplars from 1, 2 or 3 styles, the drawings of another style to be named; each style in turn
- emoji, half: the same with exemplars for half of the names, drawn at random
- stamps: exemplars from qabcs where the names are the same, photographs of all names to be named
- gcompris, costumes: one exemplar of each name that has two pictures, the other pictures to be named

The heads' constants were chosen on emoji of fold 1, stamps of folds 1 to 4, GCompris and costumes: only emoji of fold 0
are pictures that nothing was chosen on. The scales of GDA and Tip-Adapter are not tuned.

Each row is a head; each cell is top-1 of images whose name has exemplars / has none / all, and the paired difference of
"all" to zero-shot with its 95 % bootstrap interval over images. Two lines more have the paired differences of `auto` to
1-NN and to `z-score`, the term that the score had before, with its weight of 0.04.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category
from memory.vectors import MemoryVectors
from recognizer import Encoder
from recognizer.console import note, show, table
from recognizer.describing.confusing import name_vectors
from recognizer.heads import HEADS, Shots, fit
from recognizer.heads.choice import choose_constants
from recognizer.heads.kernel_ridge import KernelRidge
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.benchmarks.gcompris import gcompris
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, costumes, fold, on_white, qabcs, stamps

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Answers = NDArray[np.bool_]
BATCH = 32
DRAWS = 4
ROWS = ("zero-shot", "z-score", *HEADS)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Encoded pictures: (N, D) vectors, (N, C) zero-shot scores with regions, (N,) labels."""

    vectors: Floats
    scores: Floats
    labels: Rows

    def take(self, rows: Rows) -> Pictures:
        """Keep some."""
        return Pictures(self.vectors[rows], self.scores[rows], self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """Exemplars, pictures to be named, and (C, D) vectors of the names."""

    shots: Pictures
    queries: Pictures
    texts: Floats


def encoded(encoder: Encoder, pictures: Sequence[Picture], names: Sequence[str], texts: Floats) -> Pictures:
    """Encode pictures and score them by names, regions included."""
    nothing, none = np.zeros((0, texts.shape[1]), np.float32), np.zeros(len(names) + 1, np.int64)
    categories = [Category(name) for name in names]
    vectors = MemoryVectors(categories, texts, none, nothing, nothing, [], none, nothing, [], [])
    scorer = Scorer(vectors, ScoreSettings())
    parts = [
        encoder.encode_images([on_white(picture) for picture in pictures[start : start + BATCH]])
        for start in range(0, len(pictures), BATCH)
    ]
    labels = np.array([names.index(picture.name) for picture in pictures])
    return Pictures(
        np.concatenate([part.image for part in parts]), np.concatenate([scorer.score(part) for part in parts]), labels
    )


def sets(encoder: Encoder, root: Path, wanted: int) -> Iterator[tuple[str, list[Episode]]]:
    """Yield the episodes of every set."""
    drawn = [[each for each in emoji(root, style) if fold(each.name) == wanted] for style in STYLES]
    names = sorted({each.name for style in drawn for each in style})
    texts = name_vectors([Category(name) for name in names], encoder)
    styles = [encoded(encoder, pictures, names, texts) for pictures in drawn]
    for count in (1, 2, 3):
        yield f"emoji {count}", list(of_styles(styles, texts, count, share=1.0))
    for count in (1, 3):
        yield f"emoji {count}, half", list(of_styles(styles, texts, count, share=0.5))
    photographs, cartoons = stamps(root), qabcs(root)
    names = sorted({each.name for each in photographs})
    texts = name_vectors([Category(name) for name in names], encoder)
    cartoons = [each for each in cartoons if each.name in names]
    both = encoded(encoder, cartoons, names, texts), encoded(encoder, photographs, names, texts)
    yield "stamps", [Episode(*both, texts)]
    for label, pictures in (("gcompris", gcompris(root)), ("costumes", costumes(root))):
        names = sorted({each.name for each in pictures})
        texts = name_vectors([Category(name) for name in names], encoder)
        yield label, list(of_pairs(encoded(encoder, pictures, names, texts), texts))


def of_styles(styles: Sequence[Pictures], texts: Floats, count: int, *, share: float) -> Iterator[Episode]:
    """Yield episodes with exemplars from `count` styles for a share of the names, and queries of another style."""
    for target, queries in enumerate(styles):
        for draw in range(DRAWS):
            rng = np.random.default_rng([draw, target])
            sources = rng.permutation([place for place in range(len(styles)) if place != target])[:count]
            some = rng.permutation(len(texts))[: round(share * len(texts))]
            parts = [styles[place].take(np.flatnonzero(np.isin(styles[place].labels, some))) for place in sources]
            yield Episode(joined(parts), queries, texts)


def of_pairs(pictures: Pictures, texts: Floats) -> Iterator[Episode]:
    """Yield episodes with one exemplar of each name that has two pictures."""
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(pictures.labels))
        several = np.flatnonzero(np.bincount(pictures.labels, minlength=len(texts)) > 1)
        chosen = np.array([next(row for row in order if pictures.labels[row] == label) for label in several])
        rest = np.setdiff1d(order, chosen)
        yield Episode(pictures.take(chosen), pictures.take(rest), texts)


def joined(parts: Sequence[Pictures]) -> Pictures:
    """Join pictures of equal categories."""
    return Pictures(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def z_scores(episode: Episode, *, weight: float = 0.04, top: int = 3) -> Floats:
    """Return the scores under the earlier term: the mean cosine of the 3 nearest, standardised over categories."""
    cosines = episode.queries.vectors @ episode.shots.vectors.T
    has = np.unique(episode.shots.labels)
    means = np.stack([np.sort(cosines[:, episode.shots.labels == c])[:, -top:].mean(1) for c in has], 1)
    term = np.zeros_like(episode.queries.scores)
    term[:, has] = (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)
    scores: Floats = (1 - weight) * episode.queries.scores + weight * term
    return scores


def answers(row: str, episode: Episode) -> Answers:
    """Return (N,) whether each query is named right."""
    scores, shots = episode.queries.scores, episode.shots
    if row == "z-score":
        scores = z_scores(episode)
    elif row in HEADS:
        scores = fit(row, shots.vectors, shots.labels, episode.texts)(episode.queries.vectors, scores)
    right: Answers = scores.argmax(1) == episode.queries.labels
    return right


def lines(episodes: Sequence[Episode]) -> Iterator[list[str]]:
    """Yield the lines of the table. Images are resampled together with their repetitions in other draws."""
    has = [np.isin(each.queries.labels, each.shots.labels) for each in episodes]
    right = {row: [answers(row, each) for each in episodes] for row in ROWS}
    for row in ROWS:
        groups = [
            np.concatenate([r[h] for r, h in zip(right[row], kept, strict=True)]) for kept in (has, [~h for h in has])
        ]
        figures = [f"{group.mean():.3f}" if len(group) else "-" for group in (*groups, np.concatenate(right[row]))]
        yield [row, f"{'/'.join(figures)} {gain(right[row], right['zero-shot'], episodes)}"]
    for other in ("z-score", "nearest"):
        yield [f"auto over {other}", gain(right["auto"], right[other], episodes)]


def gain(one: Sequence[Answers], other: Sequence[Answers], episodes: Sequence[Episode]) -> str:
    """Return the paired difference of two rows and its interval."""
    differences = [a.astype(float) - b for a, b in zip(one, other, strict=True)]
    low, high = interval(differences, episodes)
    return f"{np.concatenate(differences).mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def interval(differences: Sequence[NDArray[np.float64]], episodes: Sequence[Episode]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of a mean over images, by resampling the categories."""
    size = len(episodes[0].texts)
    sums, counts = np.zeros(size), np.zeros(size)
    for values, episode in zip(differences, episodes, strict=True):
        sums += np.bincount(episode.queries.labels, values, size)
        counts += np.bincount(episode.queries.labels, minlength=size)
    drawn = np.random.default_rng(0).integers(0, size, (2000, size))
    means = sums[drawn].sum(1) / np.maximum(counts[drawn].sum(1), 1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def times() -> None:
    """Print the seconds of fitting and of one image, in processor time and by the clock."""
    rng = np.random.default_rng(0)
    rows = []
    for categories, count in ((1000, 4), (1000, 16), (1000, 100)):
        names = rng.normal(size=(categories + 20, 512))  # some have no exemplars, so that the shift is found as well
        names /= np.linalg.norm(names, axis=1, keepdims=True)
        labels = np.repeat(np.arange(categories), count)
        vectors = names[labels] + 0.08 * rng.normal(size=(len(labels), 512))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        clock, processor = time.perf_counter(), time.process_time()
        shots = Shots.of(vectors.astype(np.float32), labels, names.astype(np.float32))
        head = KernelRidge(shots, choose_constants(shots))
        fitted = time.perf_counter() - clock, time.process_time() - processor
        processor = time.process_time()
        for _ in range(10):
            head.term(shots.vectors[:BATCH])
        each = (time.process_time() - processor) / 10 / BATCH * 1000
        rows.append([f"{categories} x {count} x 512", f"{fitted[0]:.1f}", f"{fitted[1]:.1f}", f"{each:.2f}"])
    show(table(["exemplars", "fit: s", "processor s", "an image: processor ms"], rows))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--fold", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.pictures is not None:
        encoder = Encoder.load("starter")
        for name, episodes in sets(encoder, arguments.pictures, arguments.fold):
            note(f"{name}: {len(episodes)} draws")
            show(table([name, "with / without / all"], list(lines(episodes))))
    times()


if __name__ == "__main__":
    main()
