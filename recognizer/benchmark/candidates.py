"""Accuracy against the number of candidates: the true names among more and more nouns of WordNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from memory import Category
from recognizer.benchmark.bench import Bench
from recognizer.benchmark.distractors import distractors
from recognizer.benchmark.labelled_data import LabelledData, read_data
from recognizer.benchmark.reranked_scores import ScoredImages
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.calibration.diagrams import BLUE, GREY, INK, ORANGE, plain, save
from recognizer.evaluation.metrics import truth_ranks
from recognizer.evaluation.reranked import RERANKED
from recognizer.score import Rows, Scorer

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker

PROTOCOL = "candidates"
SIZES = (200, 2_000, 20_000)
WHOLE, REGIONS = "whole image", "with regions"
_MOST_COLUMNS = 4  # panels beside each other; the eleven data sets of GRAIN make three rows
_COLOURS = {WHOLE: GREY, REGIONS: BLUE, RERANKED: ORANGE}


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of the curve.

    Attributes:
        data: the data set.
        candidates: number of names to choose from.
        way: of scoring.
        metric: such as "top-1".
        values: one for each seed.
    """

    data: str
    candidates: int
    way: str
    metric: str
    values: Sequence[float]


def candidates(
    bench: Bench,
    data: Path,
    *,
    sets: Sequence[str] = (),
    sizes: Sequence[int] = SIZES,
    seeds: int = 3,
    reranker: MllmReranker | None = None,
    diagram: Path | None = None,
) -> BenchmarkTable:
    """Measure accuracy among the true names alone, and among more and more candidates.

    Distractors are those of `distractors`; a larger set holds the smaller one of the same seed.

    Args:
        bench: what is measured.
        data: labelled images.
        sets: names of usual data sets to measure on; empty: all that are there.
        sizes: numbers of candidates, the true names included; those that the names alone exceed are left out.
        seeds: how many draws of distractors.
        reranker: an MLLM that orders the best candidates.
        diagram: PNG of the curve.

    Raises:
        LayoutError: there are no labelled images.
        RecognizerError: WordNet has too few nouns.
    """
    rows: list[BenchmarkRow] = []
    points: list[Point] = []
    for each in read_data(data, sets=sets, with_training=False):
        measured = list(_measured(bench, each, sizes, seeds, reranker))
        points += measured
        rows += [
            BenchmarkRow(
                point.data,
                f"{point.candidates:,} candidates, {point.way}",
                point.metric,
                point.values,
                len(each.tests),
                "the true names alone" if point.candidates == len(each.classes) else "",
            )
            for point in measured
        ]
        rows += [
            BenchmarkRow(each.name, f"{size:,} candidates", "top-1", (), len(each.tests), "the true names are more")
            for size in sizes
            if size < len(each.classes)
        ]
    if diagram is not None:
        candidate_diagram(points, bench.encoder.card.name, diagram)
    return BenchmarkTable(
        PROTOCOL,
        bench.encoder.card,
        rows,
        notes=["Distractors: nouns of WordNet 3.0 that are neither synonyms of a true name nor what it is a kind of."],
        options={"sizes": list(sizes), "seeds": seeds},
    )


def candidate_diagram(points: Sequence[Point], encoder: str, path: Path) -> None:
    """Draw accuracy against the number of candidates, with its spread over seeds.

    Args:
        points: top-1 and top-5; each data set has its own panel.
        encoder: its name, for the title.
        path: of the PNG.

    Raises:
        OutputUnusable: the disk refuses.
    """
    sets = list(dict.fromkeys(point.data for point in points))
    columns = min(len(sets), _MOST_COLUMNS)
    lines = -(-len(sets) // columns)
    figure = Figure(figsize=(max(6.4, 4.8 * columns), 4 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for unused in panels.flat[len(sets) :]:
        unused.set_axis_off()
    for axes, data in zip(panels.flat, sets, strict=False):
        for way, colour in _COLOURS.items():
            for metric, line in (("top-1", "-"), ("top-5", "--")):
                own = [p for p in points if (p.data, p.way, p.metric) == (data, way, metric)]
                if own:
                    axes.errorbar(
                        [point.candidates for point in own],
                        [np.mean(point.values) for point in own],
                        [np.std(point.values, ddof=1) if len(point.values) > 1 else np.nan for point in own],
                        color=colour,
                        linestyle=line,
                        marker="o",
                        markersize=4,
                        capsize=3,
                        label=f"{way}, {metric}",
                    )
        axes.set(xscale="log", xlabel="candidates", ylim=(0, 1.02))
        axes.set_xticks(sorted({point.candidates for point in points if point.data == data}))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(data, color=INK, fontsize=11)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        plain(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy")
    panels.flat[len(sets) - 1].legend(loc="upper right", frameon=False, fontsize=8)
    figure.suptitle(f"Accuracy among more and more names\n{encoder}", color=INK, fontsize=11)
    save(figure, path)


def _measured(
    bench: Bench,
    data: LabelledData,
    sizes: Sequence[int],
    seeds: int,
    reranker: MllmReranker | None,
) -> Iterator[Point]:
    true = len(data.classes)
    larger = sorted({true, *(size for size in sizes if size > true)})
    drawn = [distractors(data.classes, larger[-1] - true, seed=seed) for seed in range(seeds)]
    words = list(dict.fromkeys(word for own in drawn for word in own))
    names = [*data.classes, *words]
    column_of = {word: true + place for place, word in enumerate(words)}
    orders = [np.array([*range(true), *(column_of[word] for word in own)]) for own in drawn]
    templates = data.templates or bench.encoder.default_templates
    vectors = bench.class_vectors([Category(name) for name in names], templates)
    score = bench.settings.score
    scorers = {WHOLE: Scorer(vectors, score.only("image_name")), REGIONS: Scorer(vectors, score)}
    temperature = score.temperature or bench.encoder.default_temperature
    # The names alone are the same for every seed.
    keys = [(seed, size) for size in larger for seed in range(1 if size == true else seeds)]
    ranks: dict[tuple[str, int, int], list[NDArray[np.int64]]] = {
        (way, *key): [] for way in (*scorers, RERANKED) for key in keys
    }
    asked = {
        (seed, size): ScoredImages([names[column] for column in orders[seed][:size]], bench.settings, temperature)
        for seed, size in keys
    }
    tests: Rows = data.tests
    for batch in bench.encode(data.at(tests), data.labels[tests], data.name):
        for way, scorer in scorers.items():
            scores = scorer.score(batch.features)
            for seed, size in keys:
                among = scores[:, orders[seed][:size]]
                ranks[way, seed, size].append(truth_ranks(among, batch.rows))
                if way == REGIONS and reranker is not None:
                    asked[seed, size].add(among, batch.rows, batch.items, batch.hashes)
    if reranker is not None:
        for seed, size in keys:
            ranks[RERANKED, seed, size].append(asked[seed, size].reranked(reranker).ranks)
    for size in larger:
        for way in (*scorers, *([RERANKED] if reranker is not None else [])):
            own = [np.concatenate(ranks[way, seed, of]) for seed, of in keys if of == size]
            for metric, most in (("top-1", 1), ("top-5", 5)):
                yield Point(data.name, size, way, metric, [float((each <= most).mean()) for each in own])
