"""The fine-grained protocol of FineR and RAR: classes whose names are given or must be guessed, by cACC and sACC.

Where names must be guessed, a few images of each class are there without their labels (three in the papers). Each gets
the nearest noun of WordNet, or what an MLLM calls it; the distinct names are the label file for the test images. In
RAR's way these images are then exemplars of the names that were guessed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memory import Category, read_labels
from memory.index import best_columns, inner_products
from memory.vectors import Matrix
from memory.wording import counted
from recognizer.benchmark.averages import averages
from recognizer.benchmark.bench import Bench
from recognizer.benchmark.distractors import vocabulary
from recognizer.benchmark.image_vectors import encode_vectors
from recognizer.benchmark.labelled_data import LabelledData, read_data
from recognizer.benchmark.naming import EncodeTexts, cluster_accuracy, semantic_accuracy, sentence_encoder
from recognizer.benchmark.shots import draw_shots
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.benchmark.written_names import written_names
from recognizer.errors import RecognizerError
from recognizer.heads import fit
from recognizer.score import Rows

if TYPE_CHECKING:
    from rerank.written import Writer

PROTOCOL = "fine-grained"
UNLABELLED = 3
# Images times nouns at a time: 1,000 images against all of WordNet are 160 MB.
_IMAGES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Names to choose from.

    Attributes:
        words: (C) the names.
        vectors: (C, D) float32 unit rows.
    """

    words: Sequence[str]
    vectors: Matrix

    def nearest(self, images: Matrix) -> list[str]:
        """Return the name nearest to each of (B, D) image vectors."""
        return [
            self.words[column]
            for start in range(0, len(images), _IMAGES)
            for column in best_columns(inner_products(images[start : start + _IMAGES], self.vectors), 1)[:, 0].tolist()
        ]

    def only(self, wanted: Sequence[str]) -> Names:
        """Return some of the names."""
        rows = [row for row, word in enumerate(self.words) if word in set(wanted)]
        return Names([self.words[row] for row in rows], self.vectors[rows])


Namer = Callable[[Matrix], Sequence[str]]
"""Takes (B, D) image vectors, returns the name of each."""


@dataclass(frozen=True, slots=True)
class Guessing:
    """How names are guessed.

    Attributes:
        root: what all classes are kinds of, such as "bird": only its kinds are guessed; None: every noun.
        unlabelled: images of each class from which names are guessed.
        seeds: how many draws of these.
        writer: asks an MLLM for names; None: nobody is asked.
    """

    root: str | None
    unlabelled: int
    seeds: int
    writer: Writer | None


def fine_grained(
    bench: Bench,
    data: Path,
    *,
    sets: Sequence[str] = (),
    labels: Path | None = None,
    root: str | None = None,
    unlabelled: int = UNLABELLED,
    seeds: int = 3,
    writer: Writer | None = None,
) -> BenchmarkTable:
    """Measure how well images are named.

    Args:
        bench: what is measured.
        data: labelled images; their labels are the truth.
        sets: names of usual data sets to measure on; empty: all that are there.
        labels: label file whose names are given; None: the true names.
        root: what all classes are kinds of, such as "bird": only its kinds are guessed.
        unlabelled: images of each class from which names are guessed.
        seeds: how many draws of these.
        writer: asks an MLLM for names.

    Raises:
        LayoutError: there are no labelled images.
        RecognizerError: WordNet knows no kinds of the root; there is no image from which to guess; the MLLM named not
            one image.
    """
    guessing = Guessing(root, unlabelled, seeds, writer)
    compared_by, encode = sentence_encoder(bench.encoder)
    given = None if labels is None else [category.name for category in read_labels(labels)]
    words = vocabulary(root)
    nouns: dict[Sequence[str], Names] = {}  # by the templates around them
    rows: list[BenchmarkRow] = []
    for each in read_data(data, sets=sets):
        templates = tuple(each.templates or bench.encoder.default_templates)
        if templates not in nouns:
            nouns[templates] = _encoded(bench, words, templates)
        named = _encoded(bench, given or each.classes, templates)
        rows += _rows(bench, each, named, nouns[templates], guessing, encode)
    rows += list(averages(rows))
    return BenchmarkTable(
        PROTOCOL,
        bench.encoder.card,
        rows,
        notes=[f"sACC: cosine of names by {compared_by}; figures by another one cannot be compared."],
        options={
            "labels": None if labels is None else str(labels),
            "root": root,
            "unlabelled": unlabelled,
            "seeds": seeds,
            "names_compared_by": compared_by,
            "mllm": None if writer is None else writer.mllm.name,
        },
    )


def _encoded(bench: Bench, words: Sequence[str], templates: Sequence[str]) -> Names:
    return Names(words, bench.class_vectors([Category(word) for word in words], templates).names[:])


def _rows(
    bench: Bench, data: LabelledData, named: Names, nouns: Names, guessing: Guessing, encode: EncodeTexts
) -> Iterator[BenchmarkRow]:
    draws = [_draw(data, guessing.unlabelled, seed) for seed in range(guessing.seeds)]
    images = encode_vectors(bench, data, np.unique(np.concatenate([part for draw in draws for part in draw])))
    draws = [(images.decoded(shown), images.decoded(tests)) for shown, tests in draws]
    if not all(len(shown) for shown, _ in draws):
        raise RecognizerError(
            f"{data.name} has no image from which to guess names: give two of a class, or training images beside the "
            "test images"
        )
    kind = f"kinds of {guessing.root}" if guessing.root else "nouns of WordNet"
    few = counted(guessing.unlabelled, "unlabelled image") + " per class"

    def guessed(shown: Rows) -> Names:
        return nouns.only(nouns.nearest(images.of(shown)))

    ways: dict[str, Callable[[Rows], Namer]] = {
        "names given": lambda _: named.nearest,
        kind: lambda _: nouns.nearest,
        f"{kind}, {few}": lambda shown: guessed(shown).nearest,
        f"{kind}, {few} as exemplars": lambda shown: _remembering(guessed(shown), images.of(shown)),
    }
    if (writer := guessing.writer) is not None:
        templates = data.templates or bench.encoder.default_templates
        ways[f"{writer.mllm.name}, {few}"] = lambda shown: (
            _encoded(
                bench, written_names(writer, data.at(shown), images.hashes_of(shown), guessing.root), templates
            ).nearest
        )
    # Of few images per class many are "grouped right" by chance: names that are all different reach this much.
    single = [len(np.unique(data.labels[tests])) / len(tests) for _, tests in draws]
    yield BenchmarkRow(data.name, "another name for every image", "cACC", single, len(draws[0][1]), "a floor")
    notes = {"names given": counted(len(named.words), "name"), kind: counted(len(nouns.words), "noun")}
    for what, namer in ways.items():
        values = []
        for shown, tests in draws:
            predicted = namer(shown)(images.of(tests))
            truth = [data.classes[label] for label in data.labels[tests]]
            values.append((cluster_accuracy(predicted, truth), semantic_accuracy(predicted, truth, encode)))
        for metric, figures in zip(("cACC", "sACC"), zip(*values, strict=True), strict=True):
            yield BenchmarkRow(data.name, what, metric, figures, len(draws[0][1]), notes.get(what, data.note))


def _draw(data: LabelledData, unlabelled: int, seed: int) -> tuple[Rows, Rows]:
    """Return the numbers of the unlabelled images and of those that test."""
    pool, tests = data.divided(seed)
    return pool[draw_shots(data.labels[pool], unlabelled, seed=seed)], tests


def _remembering(names: Names, images: Matrix) -> Namer:
    """Name images by the names and by images that were named before, as RAR's memory does; (n, D) these images."""
    row_of = {word: row for row, word in enumerate(names.words)}
    predict = fit("auto", images, np.array([row_of[word] for word in names.nearest(images)], np.int64), names.vectors)

    def namer(vectors: Matrix) -> list[str]:
        scores = predict(vectors, inner_products(vectors, names.vectors))
        return [names.words[column] for column in best_columns(scores, 1)[:, 0].tolist()]

    return namer
