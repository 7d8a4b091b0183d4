"""Few-shot heads by the number of exemplars and their share of the names, and what fitting and using them costs.

usage: python tests/benchmarks/heads.py [PICTURES] [--fold 0]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills; without it only times are measured, on made-up
vectors. Sets, each among the names of its fold (stamps: all 403 names):

- emoji: exemplars from 1, 2 or 3 styles, the drawings of another style to be named; every choice of styles
- emoji, half: the same with exemplars for half of the names, drawn at random
- stamps: exemplars from qabcs where the names are the same, photographs of all names to be named
- gcompris, costumes: one exemplar of each name that has two pictures, the other pictures to be named

The heads' constants were chosen on emoji of fold 1, stamps of folds 1 to 4, GCompris and costumes: only emoji of fold 0
are pictures that nothing was chosen on. The scales of GDA and Tip-Adapter are not tuned.

Each row is a head; each cell is top-1 of images whose name has exemplars / has none / all, and the paired difference of
"all" to zero-shot with its 95 % bootstrap interval over images. Two lines more have the paired differences of `auto` to
1-NN and to `z-score`, the term that the score had before, with its weight of 0.04. For exemplars of two and of three
styles, a last line says what of a tenth of wrong labels `verify --exemplars` finds.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category, ExemplarSet, Memory
from memory.vectors import MemoryVectors
from recognizer import Encoder, Recognizer
from recognizer.allocator import keep_freed_memory
from recognizer.console import note, show, table
from recognizer.describing.confusing import name_vectors
from recognizer.exemplars import ExemplarHead, store_head
from recognizer.features import FeatureStore
from recognizer.heads import HEADS, Shots, fit
from recognizer.heads.constants import PRIOR
from recognizer.heads.kernel_ridge import FEWEST, KernelRidge
from recognizer.heads.pairs import disputed_pairs
from recognizer.images import list_images
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings, Settings
from tests.benchmarks.features import fill, make_memory, make_pictures, run
from tests.benchmarks.gcompris import gcompris
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, costumes, fold, on_white, qabcs, stamps

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Answers = NDArray[np.bool_]
BATCH = 32
DRAWS = 4
ENCODED, STORED = 64, 640  # pictures of a run
PER_NAME = (1, 4)  # exemplars of a run
ROUNDS = 3
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
    """Yield episodes with exemplars from `count` styles for a share of the names, and queries of another style.

    Each choice of styles once, or `DRAWS` times where names are drawn, too.
    """
    for target, queries in enumerate(styles):
        others = [place for place in range(len(styles)) if place != target]
        for sources in combinations(others, count):
            for draw in range(DRAWS if share < 1 else 1):
                rng = np.random.default_rng([draw, target, *sources])
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


def wrong_labels(episodes: Sequence[Episode]) -> list[str]:
    """Give a tenth of the exemplars the label of another one, and return what of it is found.

    Returns:
        Share of the wrong labels that are doubted and share of the doubted ones that are wrong; the same of the
        categories of two exemplars that have a wrong one and are in dispute.
    """
    counts = np.zeros((2, 3))  # found and wrong, wrong, found; of exemplars, of pairs
    for seed, episode in enumerate(episodes):
        labels = episode.shots.labels.copy()
        moved = np.random.default_rng(seed).permutation(len(labels))[: len(labels) // 10]
        labels[moved] = np.roll(labels[moved], 1)
        wrong = labels != episode.shots.labels
        head = KernelRidge(Shots.of(episode.shots.vectors, labels, episode.texts))
        number = head.shots.counts
        doubted = np.isin(np.arange(len(labels)), [place for place, _ in head.doubted])
        counts[0] += (doubted & wrong).sum(), (wrong & (number[labels] >= FEWEST)).sum(), doubted.sum()
        pairs = set(np.flatnonzero(number == 2).tolist()) & set(labels[wrong].tolist())
        disputed = {int(labels[place]) for place, _ in disputed_pairs(head.shots, PRIOR)}
        counts[1] += len(pairs & disputed), len(pairs), len(disputed)
    shares = counts[:, :1] / np.maximum(counts[:, 1:], 1)
    return [f"{share:.2f}" if of else "-" for share, of in zip(shares.ravel(), counts[:, 1:].ravel(), strict=True)]


def times() -> None:
    """Print seconds and memory of fitting the head of a memory, and the milliseconds of its term for one image."""
    rng = np.random.default_rng(0)
    nothing = np.zeros((0, 512), np.float32)
    rows = []
    for categories, count in ((1000, 4), (1000, 16), (1000, 100)):
        # 20 without exemplars, so that there is a shift to find
        names = around(np.zeros((categories + 20, 512), np.float32), 1, rng)
        labels = np.repeat(np.arange(categories), count)
        exemplars = around(names[labels], 0.08, rng)
        offsets = np.r_[0, np.cumsum(np.bincount(labels, minlength=len(names)))]
        keys = [str(number) for number in range(len(labels))]
        none = np.zeros(len(names) + 1, np.int64)
        named = [Category(f"name {number}") for number in range(len(names))]
        vectors = MemoryVectors(named, names, none, nothing, nothing, [], offsets, exemplars, keys, keys)
        clock, processor = time.perf_counter(), time.process_time()
        head = ExemplarHead(vectors, ScoreSettings())
        fitted = time.perf_counter() - clock, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # the largest case is the last
        processor = time.process_time()
        for _ in range(10):
            head.term(exemplars[:BATCH])
        each = (time.process_time() - processor) / 10 / BATCH * 1000
        rows.append([f"{categories} x {count} x 512", *(f"{s:.1f}" for s in fitted), f"{peak:.0f}", f"{each:.2f}"])
    show(table(["exemplars", "fit: s", "processor s", "peak of the process: MiB", "an image: processor ms"], rows))


def around(rows: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Return rows of length 1 around others; in single precision and in place, as the peak of memory is measured."""
    drawn = rng.standard_normal(rows.shape, np.float32)
    drawn *= noise
    drawn += rows
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def runs() -> None:
    """Print the milliseconds per image of a run with exemplars and without, start-up and fitting not included."""
    keep_freed_memory()  # as the command does
    encoder = Encoder.load("starter", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder, ENCODED, STORED)
        some, every = list_images([folder / "encoded"]), list_images([folder / "encoded", folder / "copies"])
        memories = [make_memory(folder / f"{count}.memory", encoder, 429, 0) for count in (0, *PER_NAME)]
        for memory, count in zip(memories[1:], PER_NAME, strict=True):
            memory.replace_exemplars(made_up_exemplars(memory, count))
            store_head(memory)
        with FeatureStore(folder / "features", encoder.card, Settings().images, warn=note) as features:
            fill(encoder, features, some, folder / "copies")
        with FeatureStore(folder / "features", encoder.card, Settings().images, warn=note) as features:  # all written
            arms = [
                [(Recognizer(encoder, memory), some), (Recognizer(encoder, memory, features=features), every)]
                for memory in memories
            ]
            spent = np.zeros((len(memories), 2, 2, ROUNDS + 1))
            for turn in range(ROUNDS + 1):  # the first one fits the heads
                for number, arm in enumerate(arms):
                    for kind, (recognizer, images) in enumerate(arm):
                        processor = time.process_time()
                        clock = run(recognizer, images, folder / "results")
                        spent[number, kind, :, turn] = clock, time.process_time() - processor
                        spent[number, kind, :, turn] /= len(images)
    middle = np.median(spent[..., 1:], axis=-1) * 1000
    ratios = np.median(spent[..., 1:] / spent[:1, ..., 1:], axis=-1)
    heads = ["exemplars", "images", "clock: ms an image", "ratio", "processor ms", "ratio"]
    rows = []
    for memory, own, share in zip(memories, middle, ratios, strict=True):
        for kind, label in enumerate(("encoded", "stored")):
            figures = (f"{own[kind, n]:.2f} {share[kind, n]:.2f}".split() for n in range(2))
            rows.append([str(len(memory.vectors.exemplars)), label, *(text for pair in figures for text in pair)])
    show(table(heads, rows))


def made_up_exemplars(memory: Memory, count: int) -> ExemplarSet:
    """Return `count` vectors around the name of each category."""
    rng, names = np.random.default_rng(0), memory.vectors.names
    vectors = around(np.repeat(names, count, axis=0), 0.04, rng)
    ids = [category.id for category in memory.vectors.categories for _ in range(count)]
    references = [str(number) for number in range(len(ids))]
    hashes = [sha256(reference.encode()).hexdigest() for reference in references]
    return ExemplarSet(ids, references, hashes, vectors)


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
            if name in ("emoji 2", "emoji 3"):
                heads = [
                    "wrong labels",
                    "doubted",
                    "doubted that are wrong",
                    "pairs in dispute",
                    "disputed that are wrong",
                ]
                show(table(heads, [[name, *wrong_labels(episodes)]]))
    times()
    runs()


if __name__ == "__main__":
    main()
