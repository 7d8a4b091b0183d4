"""Zero-shot classification: CLIP's protocol on the usual data sets, and GRAIN's formula with descriptions.

With image vector g, query (region) vectors r_q, name vector n_c, descriptions with the name v_cj and alone d_cj, an
image gets the class of the highest

    names                 <g, n_c>                                                 Radford et al., arXiv 2103.00020
    descriptions          G = mean_j <g, v_cj>                                     Menon & Vondrick, arXiv 2210.07183
    GRAIN's formula       alpha G + (1 - alpha) mean_q max_j <r_q, d_cj>           Halbe et al., arXiv 2412.04429

A class without descriptions has its name as its only one. Queries are the regions whose weight reaches the threshold
of the score, or the whole image where none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category, Description
from memory.index import inner_products
from memory.template_file import parse_templates
from memory.vectors import MemoryVectors, mean_by_category
from memory.wording import counted
from recognizer.benchmark.bench import Bench, LayoutError, contents
from recognizer.benchmark.data_sets import DATA_SETS, GRAIN_SETS, ImageSplit, read_split, require_known
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.describing.joining import read_descriptions
from recognizer.encoder import ImageFeatures
from recognizer.errors import RecognizerError
from recognizer.evaluation.evaluate import random_words
from recognizer.evaluation.labelled import CategoryNames, read_labelled
from recognizer.evaluation.metrics import class_recall, truth_ranks
from recognizer.score import Floats, visible_regions

PER_SET, SEVEN, EIGHTY = "per-set", "7", "80"
"""Choices of templates beside files: those of CLIP for each set, and the lists of ImageNet."""
ALPHA = 0.5
"""Weight of the whole image in GRAIN's formula. No value is published, and the released code multiplies the regions by
0. On photographs of stamps of the development fold (81, with WordNet's descriptions for 70 of 76 names) 1, 0.8, 0.6,
0.5, 0.4, 0.2 and 0 give top-1 0.568, 0.580, 0.580, 0.580, 0.568, 0.543 and 0.457, names alone 0.556: half is the end of
the plateau that leaves the regions the most."""
_TOP1, _PER_CLASS = "top-1", "mean per class"
_NOT_THERE = "not there"


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One set, ready to be measured.

    Attributes:
        name: of the set.
        split: its images.
        metrics: what is reported of it.
        templates: by the name of the choice.
        categories: (C) its classes, with the descriptions that were found.
    """

    name: str
    split: ImageSplit
    metrics: Sequence[str]
    templates: Mapping[str, Sequence[str]]
    categories: Sequence[Category]

    @property
    def described(self) -> int:
        """Count the classes with descriptions."""
        return sum(bool(category.descriptions) for category in self.categories)


def zero_shot(
    bench: Bench,
    data: Path | None,
    *,
    labelled: Path | None = None,
    sets: Sequence[str] = (),
    templates: Sequence[str] = (PER_SET,),
    descriptions: Path | None = None,
    alpha: float = ALPHA,
    seed: int = 0,
) -> BenchmarkTable:
    """Measure zero-shot accuracy on the data sets that are there; a row says of each other one what is expected.

    Args:
        bench: the encoder.
        data: folder of the sets in `DATA_SETS`.
        labelled: one more set, FOLDER/LABEL/IMAGE or a CSV of path and label.
        sets: names of those to measure; empty: all.
        templates: each "per-set", "7", "80" or a file of templates.
        descriptions: a file of descriptions by name for all sets, or a folder of files named after them, such as
            `descriptors_food101.json`.
        alpha: weight of the whole image in GRAIN's formula, 0 to 1.
        seed: of the random words.

    Raises:
        LayoutError: none of the sets is there and can be measured.
        RecognizerError: an unknown set, or nothing to measure.
    """
    if data is None and labelled is None:
        raise RecognizerError("nothing to measure; give --data FOLDER, --labelled FOLDER or both")
    require_known(sets)
    choices = {choice: _template_choice(choice) for choice in dict.fromkeys(templates)}
    rows: list[BenchmarkRow] = []
    described = 0
    if data is not None:
        for name in sets or DATA_SETS:
            split = _read(name, data)
            if isinstance(split, BenchmarkRow):
                rows.append(split)
                continue
            one = _measured(
                name, split, choices, descriptions, DATA_SETS[name].templates or _imagenet_templates(EIGHTY)
            )
            described += one.described
            try:
                rows += _measure(bench, one, alpha, seed)
            except RecognizerError as error:  # of one set; the others count
                rows.append(BenchmarkRow(name, "", DATA_SETS[name].metric, (), 0, str(error)))
        if not any(row.values for row in rows):
            raise LayoutError(_nothing_there(data, rows))
        rows += _averages(rows)
    if labelled is not None:
        one = _measured(
            labelled.stem, _labelled_split(labelled), choices, descriptions, bench.encoder.default_templates
        )
        described += one.described
        rows += _measure(bench, one, alpha, seed)
    notes = [
        f"{_PER_CLASS}: what CLIP reports of a set; GRAIN reports {_TOP1} of all sets",
        f"{PER_SET}: CLIP's templates for the set, {EIGHTY} for ImageNet, the encoder's own for another folder",
    ]
    if descriptions is not None and not described:
        notes.append(f"no name in {descriptions} is a class of a set that was measured, so no row has descriptions")
    return BenchmarkTable(
        "zero-shot",
        bench.encoder.card,
        rows,
        notes,
        options={"templates": list(choices), "alpha": alpha, "seed": seed, "descriptions": str(descriptions or "")},
    )


def region_term(regions: Sequence[Floats], vectors: MemoryVectors) -> Floats:
    """Return mean_q max_j <r_q, d_cj>, the region term of GRAIN's test-time formula.

    Args:
        regions: per image (Q_i, D), Q_i >= 1.
        vectors: of C classes; one without descriptions has its name as its only one.

    Returns:
        (B, C) float32.
    """
    described = np.flatnonzero(np.diff(vectors.offsets))
    term = np.empty((len(regions), len(vectors.names)), np.float32)
    for image, own in enumerate(regions):  # one at a time: 100 regions by 8,000 descriptions take 3 MB
        best = inner_products(own, vectors.names)
        if len(described):
            similar = inner_products(own, vectors.bare)
            best[:, described] = np.maximum.reduceat(similar, vectors.offsets[:-1][described], axis=1)
        term[image] = best.mean(0)
    return term


class _Way:
    """The classes of a set under one choice of templates: scores of each way, and the ranks so far."""

    def __init__(self, bench: Bench, categories: Sequence[Category], templates: Sequence[str], seed: int) -> None:
        self.vectors = bench.class_vectors(categories, templates)
        self.wholes = {"names": self.vectors.names}
        self._score = bench.settings.score
        if len(self.vectors.bare):
            self.wholes["descriptions"] = _whole(self.vectors)
            shuffled = random_words([category.descriptions for category in categories], seed=seed)
            control = [
                replace(category, descriptions=tuple(own)) for category, own in zip(categories, shuffled, strict=True)
            ]
            self.wholes["random words (control)"] = _whole(bench.class_vectors(control, templates))

    def scores(self, features: ImageFeatures, alpha: float) -> dict[str, Floats]:
        """Return (B, C) scores by the name of the way."""
        scores = {name: inner_products(features.image, whole) for name, whole in self.wholes.items()}
        if len(self.vectors.bare):
            regions = region_term(visible_regions(features, self._score), self.vectors)
            scores[f"GRAIN's formula, alpha {alpha:g}"] = alpha * scores["descriptions"] + (1 - alpha) * regions
        return scores


def _whole(vectors: MemoryVectors) -> Floats:
    return mean_by_category(vectors.grounded, vectors.offsets, vectors.names)


def _measure(bench: Bench, one: _Measured, alpha: float, seed: int) -> list[BenchmarkRow]:
    """Measure a set in one pass over its images."""
    ways = {choice: _Way(bench, one.categories, own, seed) for choice, own in one.templates.items()}
    ranks: dict[str, list[NDArray[np.int64]]] = {}
    truth: list[NDArray[np.int64]] = []
    for batch in bench.encode(one.split.items, one.split.labels, one.name):
        truth.append(batch.rows)
        for choice, way in ways.items():
            for name, scores in way.scores(batch.features, alpha).items():
                ranks.setdefault(f"{name}, {choice} templates", []).append(truth_ranks(scores, batch.rows))
    true = np.concatenate(truth)
    classes = np.unique(true, return_inverse=True)[1]
    rows = []
    for what, parts in ranks.items():
        hits = (np.concatenate(parts) <= 1).astype(float)
        figures = {_TOP1: float(hits.mean()), _PER_CLASS: class_recall(hits, classes)}
        notes = [one.split.note]
        if one.described and not what.startswith("names"):
            notes.append(f"{one.described} of {counted(len(one.categories), 'class')} described")
        note = "; ".join(filter(None, notes))
        rows += [BenchmarkRow(one.name, what, metric, (figures[metric],), len(true), note) for metric in one.metrics]
    return rows


def _read(name: str, data: Path) -> ImageSplit | BenchmarkRow:
    """Read the images of a set, or return the row that says why there are none."""
    try:
        split = read_split(name, data, "test")
        absence = f"{_NOT_THERE}; expected {DATA_SETS[name].expected}"
    except LayoutError as error:
        split, absence = None, str(error)
    return split or BenchmarkRow(name, "", DATA_SETS[name].metric, (), 0, absence)


def _nothing_there(data: Path, rows: Sequence[BenchmarkRow]) -> str:
    """Say what a folder has instead of the data sets of these rows."""
    damaged = [row.note for row in rows if not row.note.startswith(_NOT_THERE)]
    if damaged:
        return "; ".join(damaged)
    expected = "; ".join(DATA_SETS[row.data].expected for row in rows)
    return (
        f"{data} has {contents(data)}, and none of the data sets; expected {expected}. Where it holds LABEL/IMAGE, "
        "give it as --labelled instead of --data"
    )


def _averages(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Average each way over GRAIN's sets: by the metric that CLIP reports of each set, and by top-1 alone."""
    averages = []
    whats = dict.fromkeys(row.what for row in rows if row.data in GRAIN_SETS and row.values)
    for what in whats:
        own = {(row.data, row.metric): row for row in rows if row.what == what and row.data in GRAIN_SETS}
        there = list(dict.fromkeys(name for name, _ in own))
        if len(there) < 2:
            continue
        missing = [name for name in GRAIN_SETS if name not in there]
        data = "average of 11" if not missing else f"average of {len(there)} of GRAIN's 11"
        note = f"without {', '.join(missing)}" if missing else ""
        for metric, chosen in (
            ("CLIP's of each set", [own[name, DATA_SETS[name].metric] for name in there]),
            (_TOP1, [own[name, _TOP1] for name in there]),
        ):
            values = [value for row in chosen for value in row.values]
            averages.append(
                BenchmarkRow(data, what, metric, (sum(values) / len(values),), sum(row.n for row in chosen), note)
            )
    return averages


def _template_choice(choice: str) -> Sequence[str] | None:
    """Return the templates of a choice; None: those of each set."""
    if choice == PER_SET:
        return None
    if choice in (SEVEN, EIGHTY):
        return _imagenet_templates(choice)
    path = Path(choice)
    if not path.is_file():
        raise RecognizerError(f"--templates {choice} is neither {PER_SET}, {SEVEN}, {EIGHTY} nor a file")
    return parse_templates(path.read_text(encoding="utf-8"))


def _imagenet_templates(choice: str) -> Sequence[str]:
    import open_clip

    functions = open_clip.SIMPLE_IMAGENET_TEMPLATES if choice == SEVEN else open_clip.OPENAI_IMAGENET_TEMPLATES
    return tuple(function("{}") for function in functions)


def _measured(
    name: str,
    split: ImageSplit,
    choices: Mapping[str, Sequence[str] | None],
    descriptions: Path | None,
    own: Sequence[str],
) -> _Measured:
    """Join a set with its descriptions and templates; `own` are those of the choice per set."""
    known = DATA_SETS.get(name)
    file = _description_file(name, descriptions)
    return _Measured(
        name,
        split,
        metrics=(_TOP1,) if known is None or known.metric == _TOP1 else (known.metric, _TOP1),
        templates={choice: own if chosen is None else chosen for choice, chosen in choices.items()},
        categories=_described(split.classes, file) if file else [Category(each) for each in split.classes],
    )


def _description_file(name: str, descriptions: Path | None) -> Path | None:
    """Find the file of a set: the one that is named, or in a folder the one that is called after the set."""
    if descriptions is None or not descriptions.is_dir():
        return descriptions
    aliases = {name.lower(), *(DATA_SETS[name].descriptions if name in DATA_SETS else ())}
    stems = aliases | {f"descriptors_{alias}" for alias in aliases}
    return next((path for path in sorted(descriptions.iterdir()) if path.stem.lower() in stems), None)


def _described(classes: Sequence[str], file: Path) -> list[Category]:
    """Give classes the descriptions of equal names, in any case and spacing; the order of the file has no meaning."""
    described = read_descriptions(file)
    names = CategoryNames(described)
    found: list[list[Description]] = [
        [text for row in names.rows(each) for text in described[row].descriptions] for each in classes
    ]
    return [Category(each, descriptions=tuple(own)) for each, own in zip(classes, found, strict=True)]


def _labelled_split(path: Path) -> ImageSplit:
    images = read_labelled(path)
    classes, labels = np.unique(np.array(images.labels, object), return_inverse=True)
    return ImageSplit(classes.tolist(), images.items, labels.astype(np.int64))
