"""The fine-grained protocol of FineR and RAR: classes whose names are given or must be guessed, by cACC and sACC.

Where names must be guessed, a few images of each class are there without their labels (three in the papers). Each gets
the nearest noun of WordNet, or what an MLLM calls it; the distinct names are the label file for the test images.
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
from recognizer.benchmark.bench import Bench
from recognizer.benchmark.distractors import vocabulary
from recognizer.benchmark.image_vectors import ImageVectors, encode_vectors
from recognizer.benchmark.labelled_data import LabelledData, read_data
from recognizer.benchmark.naming import EncodeTexts, cluster_accuracy, semantic_accuracy, sentence_encoder
from recognizer.benchmark.shots import draw_shots
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.benchmark.written_names import written_names
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


Guess = Callable[[Rows], Names]
"""Takes the numbers of the unlabelled images, returns the names to choose from."""


def fine_grained(
    bench: Bench,
    data: Path,
    *,
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
        labels: label file whose names are given; None: the true names.
        root: what all classes are kinds of, such as "bird": only its kinds are guessed.
        unlabelled: images of each class from which names are guessed.
        seeds: how many draws of these.
        writer: asks an MLLM for names.

    Raises:
        LayoutError: there are no labelled images.
        RecognizerError: WordNet knows no kinds of the root; the MLLM named not one image.
    """
    compared_by, encode = sentence_encoder(bench.encoder)
    given = None if labels is None else [category.name for category in read_labels(labels)]
    words = vocabulary(root)
    nouns: dict[Sequence[str], Names] = {}  # by the templates around them
    rows: list[BenchmarkRow] = []
    for each in read_data(data):
        templates = tuple(each.templates or bench.encoder.default_templates)
        if templates not in nouns:
            nouns[templates] = _encoded(bench, words, templates)
        named = _encoded(bench, given or each.classes, templates)
        rows += _rows(bench, each, named, nouns[templates], root, unlabelled, seeds, writer, encode)
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
    return Names(words, bench.class_vectors([Category(word) for word in words], templates).names)


def _rows(
    bench: Bench,
    data: LabelledData,
    named: Names,
    nouns: Names,
    root: str | None,
    unlabelled: int,
    seeds: int,
    writer: Writer | None,
    encode: EncodeTexts,
) -> Iterator[BenchmarkRow]:
    draws = [_draw(data, unlabelled, seed) for seed in range(seeds)]
    images = encode_vectors(bench, data, np.unique(np.concatenate([part for draw in draws for part in draw])))
    draws = [(images.decoded(shown), images.decoded(tests)) for shown, tests in draws]
    kind = f"kinds of {root}" if root else "nouns of WordNet"
    few = f"{unlabelled} unlabelled images per class"
    ways: dict[str, Guess] = {
        f"{len(named.words)} names given": lambda _: named,
        f"{len(nouns.words)} {kind}": lambda _: nouns,
        f"{kind}, {few}": lambda shown: nouns.only(nouns.nearest(images.of(shown))),
    }
    if writer is not None:
        templates = data.templates or bench.encoder.default_templates
        ways[f"{writer.mllm.name}, {few}"] = lambda shown: _encoded(
            bench, written_names(writer, data.at(shown), images.hashes_of(shown), root), templates
        )
    for what, guess in ways.items():
        values = [_measured(data, images, guess(shown), tests, encode) for shown, tests in draws]
        for metric, figures in zip(("cACC", "sACC"), zip(*values, strict=True), strict=True):
            yield BenchmarkRow(data.name, what, metric, figures, len(draws[0][1]), data.note)


def _draw(data: LabelledData, unlabelled: int, seed: int) -> tuple[Rows, Rows]:
    """Return the numbers of the unlabelled images and of those that test."""
    pool, tests = data.divided(seed)
    return pool[draw_shots(data.labels[pool], unlabelled, seed=seed)], tests


def _measured(
    data: LabelledData, images: ImageVectors, names: Names, tests: Rows, encode: EncodeTexts
) -> tuple[float, float]:
    """Return cACC and sACC of the nearest names."""
    predicted = names.nearest(images.of(tests))
    truth = [data.classes[label] for label in data.labels[tests]]
    return cluster_accuracy(predicted, truth), semantic_accuracy(predicted, truth, encode)
