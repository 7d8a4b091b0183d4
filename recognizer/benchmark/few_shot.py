"""The few-shot protocol: some labelled images of each class, and what each head makes of them beside the names.

Shots are drawn by a seed, or are the first in the order of the files (RAR, arXiv 2403.13805). Each image is encoded
once; heads work on the vectors of whole images, and so does the zero-shot row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memory import Category
from memory.errors import printable
from memory.index import inner_products
from memory.vectors import Matrix
from memory.wording import counted
from recognizer.benchmark.averages import averages
from recognizer.benchmark.bench import Bench
from recognizer.benchmark.image_vectors import ImageVectors, encode_vectors
from recognizer.benchmark.labelled_data import LabelledData, read_data
from recognizer.benchmark.reranked_scores import ScoredImages
from recognizer.benchmark.shots import draw_shots, short_classes
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.errors import RecognizerError
from recognizer.evaluation.metrics import truth_ranks
from recognizer.evaluation.reranked import RERANKED
from recognizer.heads import HEADS, Predict, fit
from recognizer.score import Rows

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker

PROTOCOL = "few-shot"
SHOTS = (1, 2, 4, 8, 16)
ZERO_SHOT, NEAREST, BEST = "zero-shot", "nearest", "auto"
_IMAGES = 2048  # scored at a time: 8 MB for 1,000 classes
_FEW_FOR_GDA = 4
_HEADS: Mapping[str, str] = {
    NEAREST: "1-NN (RAR's CLIP+KNN)",
    "proker": "ProKeR",
    "gda": "GDA",
    "sstext": "SS-Text+",
    "tip": "Tip-Adapter",
}
_MOST_NAMED = 10  # classes in one note; the JSON has all


def few_shot(
    bench: Bench,
    data: Path,
    *,
    sets: Sequence[str] = (),
    shots: Sequence[int] = SHOTS,
    seeds: int = 3,
    in_file_order: bool = False,
    reranker: MllmReranker | None = None,
) -> BenchmarkTable:
    """Measure top-1 of each head at each number of shots.

    Args:
        bench: what is measured.
        data: labelled images; where they have no test set, half of each class tests, whatever the number of shots.
        sets: names of usual data sets to measure on; empty: all that are there.
        shots: images of each class.
        seeds: how many draws of them.
        in_file_order: the first images are taken instead, once.
        reranker: an MLLM that orders the best names by the head `auto`.

    Raises:
        LayoutError: there are no labelled images.
        RecognizerError: no class has an image to spare for shots.
    """
    drawn = [None] if in_file_order else list(range(seeds))
    rows: list[BenchmarkRow] = []
    short: dict[str, dict[int, dict[str, int]]] = {}
    for each in read_data(data, sets=sets):
        short[each.name] = _short(each, shots)
        rows += _rows(bench, each, sorted(set(shots)), drawn, reranker)
    rows += list(averages(rows))
    return BenchmarkTable(
        PROTOCOL,
        bench.encoder.card,
        rows,
        notes=list(_short_lines(short)),
        options={
            "shots": list(shots),
            "drawn": "in the order of the files" if in_file_order else f"by the seeds 0 to {seeds - 1}",
            "short": short,
            "mllm": None if reranker is None else reranker.mllm.name,
        },
    )


def _rows(
    bench: Bench, data: LabelledData, shots: Sequence[int], seeds: Sequence[int | None], reranker: MllmReranker | None
) -> Iterator[BenchmarkRow]:
    divisions = {seed: data.divided(seed) for seed in seeds}
    most = int(np.bincount(data.labels[divisions[seeds[0]][0]], minlength=1).max())
    if most == 0:
        raise RecognizerError(
            f"{data.name} has no image for shots: give two of a class, or training images beside the test images"
        )
    draws = {
        (seed, count): pool[draw_shots(data.labels[pool], count, seed=seed)]
        for seed, (pool, _) in divisions.items()
        for count in shots
    }
    wanted = [*draws.values(), *(tests for _, tests in divisions.values())]
    images = encode_vectors(bench, data, np.unique(np.concatenate(wanted)))
    templates = data.templates or bench.encoder.default_templates
    texts = bench.class_vectors([Category(name) for name in data.classes], templates).names[:]
    shown = {seed: set(images.hashes_of(images.decoded(draws[seed, max(shots)]))) for seed in seeds}
    tests = {seed: _others(images, each, shown[seed]) for seed, (_, each) in divisions.items()}
    number = len(tests[seeds[0]])
    if not all(map(len, tests.values())):
        raise RecognizerError(f"{data.name} has no test image that is not the file of a shot as well")

    def ranks(seed: int | None, predict: Predict | None, asked: ScoredImages | None = None) -> Rows:
        return _ranks(data, images, texts, tests[seed], predict, asked)

    within = bench.settings.run.top_k
    oracle = f"oracle: true name among the {within} best of {BEST}"
    # Where the data have their own test set, it is the same for every seed.
    once = seeds if data.is_test is None else seeds[:1]
    yield BenchmarkRow(data.name, ZERO_SHOT, "top-1", [_share(ranks(seed, None)) for seed in once], number, data.note)
    for count in shots:
        if count > most:
            note = f"no class has more than {most} images for shots"
            yield BenchmarkRow(data.name, counted(count, "shot"), "top-1", (), number, note)
            continue
        found: dict[str, list[float]] = {}
        in_reach: list[float] = []
        for seed in seeds:
            own = images.decoded(draws[seed, count])
            asked = ScoredImages(data.classes, bench.settings, _temperature(bench)) if reranker is not None else None
            for head in (NEAREST, *(name for name in HEADS if name != NEAREST)):
                predict = fit(head, images.of(own), data.labels[own], texts)
                places = ranks(seed, predict, asked if head == BEST else None)
                found.setdefault(head, []).append(_share(places))
                if head == BEST:
                    in_reach.append(_share(places, within))
            if reranker is not None and asked is not None:
                found.setdefault(f"{BEST} {RERANKED}", []).append(_share(asked.reranked(reranker).ranks))
        found[oracle] = in_reach
        for what, values in found.items():
            note = "without augmented views" if what == "gda" and count < _FEW_FOR_GDA else data.note
            yield BenchmarkRow(
                data.name, f"{counted(count, 'shot')}, {_HEADS.get(what, what)}", "top-1", values, number, note
            )


def _ranks(
    data: LabelledData,
    images: ImageVectors,
    texts: Matrix,
    tests: Rows,
    predict: Predict | None,
    asked: ScoredImages | None,
) -> Rows:
    """Return the rank of the true name of each test image; `asked` gets the scores."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(tests), _IMAGES):
        part = tests[start : start + _IMAGES]
        vectors, truth = images.of(part), data.labels[part]
        scores = inner_products(vectors, texts)
        if predict is not None:
            scores = predict(vectors, scores)
        if asked is not None:
            asked.add(scores, truth, data.at(part), images.hashes_of(part))
        found.append(truth_ranks(scores, truth))
    return np.concatenate(found)


def _others(images: ImageVectors, tests: Rows, shown: Set[str]) -> Rows:
    """Return the test images that were decoded and are not the files of shots, which would answer for themselves."""
    decoded = images.decoded(tests)
    return decoded[[digest not in shown for digest in images.hashes_of(decoded)]]


def _share(ranks: Rows, within: int = 1) -> float:
    return float((ranks <= within).mean())


def _temperature(bench: Bench) -> float:
    return bench.settings.score.temperature or bench.encoder.default_temperature


def _short(data: LabelledData, shots: Sequence[int]) -> dict[int, dict[str, int]]:
    pool, _ = data.divided(0)
    short = {count: short_classes(data.labels[pool], count, data.classes) for count in shots}
    return {count: classes for count, classes in short.items() if classes}


def _short_lines(short: Mapping[str, Mapping[int, Mapping[str, int]]]) -> Iterator[str]:
    for data, counts in short.items():
        for count, classes in counts.items():
            named = ", ".join(f"{printable(name)} {has}" for name, has in list(classes.items())[:_MOST_NAMED])
            more = f" and {len(classes) - _MOST_NAMED} more" if len(classes) > _MOST_NAMED else ""
            yield f"{data}, {counted(count, 'shot')}: classes with fewer images, and how many: {named}{more}"
