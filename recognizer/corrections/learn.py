"""What a memory learns from corrections: a corrected image or box becomes an exemplar, a new name a category.

Accuracy before and after is measured on a fifth of the corrections, for which the others alone are learnt from; then
all of them are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memory import Category, ExemplarSet, Memory
from memory.vectors import Matrix, MemoryVectors
from recognizer.boxes.encode import encode_boxes
from recognizer.boxes.given import GivenBox
from recognizer.boxes.plan import BoxItem
from recognizer.corrections.log import Correction
from recognizer.encoder import Encoder, ImageFeatures
from recognizer.errors import RecognizerError
from recognizer.exemplar_files import join_exemplars, stored_exemplars, take_exemplars
from recognizer.exemplars import chosen_settings, store_head
from recognizer.features import FeatureStore, encode_or_read
from recognizer.images import ImageItem
from recognizer.images.key import key_from_display
from recognizer.images.rooted import path_under
from recognizer.pipeline import EncodedBatch, in_batches
from recognizer.results.row import ResultRow, Row
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings, Settings
from recognizer.unknown.mining import labels_again

KEPT_APART = 5
"""One of so many corrections measures what was learnt from the others."""
FEWEST_APART = 5
"""With fewer of them nothing is measured: one image would be worth 20 points and more."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Corrected images and boxes, encoded.

    Attributes:
        corrections: (N) what was said of each.
        hashes: (N) of the file, or of the file and the box.
        vectors: (N, D) float32 unit rows.
        batches: the same images with their regions, for scoring; each with its places among the N.
        encoded: images and crops that had no stored features.
        unreadable: a sentence for each one that could not be used.
    """

    corrections: Sequence[Correction]
    hashes: Sequence[str]
    vectors: Matrix
    batches: Sequence[tuple[ImageFeatures, Sequence[int]]]
    encoded: int
    unreadable: Sequence[str]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was learnt.

    Attributes:
        exemplars: images and boxes that are exemplars now.
        added: categories that the memory did not have.
        encoded: images and crops that had no stored features.
        unreadable: a sentence for each one that could not be used.
        apart: corrections that were kept apart to measure on; 0: too few.
        before: share of those whose label was right before.
        after: and with what was learnt from the others.
    """

    exemplars: int
    added: Sequence[Category]
    encoded: int
    unreadable: Sequence[str]
    apart: int
    before: float
    after: float


def read_examples(
    encoder: Encoder,
    corrections: Mapping[str, Correction],
    rows: Sequence[Row],
    root: Path,
    *,
    settings: Settings,
    features: FeatureStore | None,
) -> Examples:
    """Encode what was corrected and the boxes that were drawn, or take it from the stored features.

    Args:
        encoder: of the memory.
        corrections: the last one of each row and box, by its key.
        rows: of the results.
        root: the folder that their paths are relative to; nothing outside of it is opened.
        settings: of images and boxes.
        features: the stored ones; None: all are encoded.
    """
    images: list[ImageItem] = []
    boxes: list[BoxItem] = []
    said: dict[ImageItem, Correction] = {}
    unreadable: list[str] = []
    for row in rows:
        correction = corrections.get(row.key)
        if correction is None or correction.xyxy is not None or correction.verdict == "skip":
            continue
        if not isinstance(row, ResultRow):
            continue
        path = path_under(root, key_from_display(row.path))
        if path is None:
            unreadable.append(f"{row.key}: its path leads out of the folder of the images")
            continue
        key = key_from_display(row.path)
        if row.box is None:
            images.append(ImageItem(key, path))
            said[images[-1]] = correction
        elif row.box.xyxy is not None:
            boxes.append(BoxItem(key, path, GivenBox(image=row.path, xyxy=_corners(row.box.xyxy))))
            said[boxes[-1]] = correction
    paths = {row.path for row in rows if isinstance(row, ResultRow)}
    drawn = [one for one in corrections.values() if one.xyxy is not None and one.path in paths]
    for one in sorted(drawn, key=lambda one: one.path):  # boxes of an image together: it is decoded once for them
        key = key_from_display(one.path)
        path = path_under(root, key)
        if path is None:
            unreadable.append(f"{one.key}: its path leads out of the folder of the images")
            continue
        assert one.xyxy is not None
        boxes.append(BoxItem(key, path, GivenBox(image=one.path, xyxy=one.xyxy)))
        said[boxes[-1]] = one
    before = 0 if features is None else features.encoded
    batches: list[tuple[ImageFeatures, Sequence[int]]] = []
    kept: list[Correction] = []
    hashes: list[str] = []
    for batch in _encoded(encoder, images, boxes, settings, features):
        for item, error in zip(batch.items, batch.errors, strict=True):
            if error is not None:
                unreadable.append(f"{said[item].key}: {error}")
        if batch.features is None:
            continue
        batches.append((batch.features, range(len(kept), len(kept) + len(batch.positions))))
        for position, digest in zip(batch.positions, batch.hashes, strict=True):
            item = batch.items[position]
            kept.append(said[item])
            hashes.append(_content(item, digest))
    images_encoded = len(images) if features is None else features.encoded - before
    return Examples(
        kept,
        hashes,
        np.concatenate([np.zeros((0, encoder.card.dim), np.float32), *(part.image for part, _ in batches)]),
        batches,
        images_encoded + len(boxes),
        unreadable,
    )


def without_row(corrections: Mapping[str, Correction], rows: Sequence[Row]) -> list[str]:
    """Return the keys of corrections whose row, or whose image for a box that was drawn, is not among some rows."""
    keys, paths = {row.key for row in rows}, {row.path for row in rows}
    return [key for key, one in corrections.items() if not (key in keys if one.xyxy is None else one.path in paths)]


def learn(memory: Memory, encoder: Encoder, examples: Examples, *, score: ScoreSettings) -> Learnt:
    """Teach a memory what was corrected.

    Args:
        memory: an opened one.
        encoder: that of the memory.
        examples: what was corrected.
        score: the weights under which accuracy is measured.

    Raises:
        RecognizerError: there is nothing to learn from.
    """
    taught = [place for place, one in enumerate(examples.corrections) if one.verdict == "category"]
    if not taught:
        raise RecognizerError("no correction names a category of an image that can be read, so nothing can be learnt")
    known = {category.id for category in memory.bare_categories()}
    named = {place: _category(examples.corrections[place]) for place in taught}
    added = {category.id: category for category in named.values() if category.id not in known}
    if added:
        negatives = labels_again(memory)
        memory.add(added.values(), encoder=encoder, negatives=negatives)
    vectors = memory.vectors
    # What was said of an image replaces what the memory was told of it before.
    corrected = set(examples.hashes)
    present = stored_exemplars(vectors)
    present = take_exemplars(present, [n for n, digest in enumerate(present.hashes) if digest not in corrected])

    def told(places: Sequence[int]) -> ExemplarSet:
        return join_exemplars(
            present,
            ExemplarSet(
                [named[place].id for place in places],
                [examples.corrections[place].key for place in places],
                [examples.hashes[place] for place in places],
                examples.vectors[list(places)],
            ),
        )

    # A box that was drawn had no label that could have been right before.
    rows = [place for place in taught if examples.corrections[place].xyxy is None]
    apart = [place for place in rows if _is_apart(examples.corrections[place].key)]
    before = after = 0.0
    if len(apart) >= FEWEST_APART:
        before = float(np.mean([examples.corrections[place].verified for place in apart]))
        others = told([place for place in taught if place not in set(apart)])
        after = _accuracy(with_exemplars(vectors, others), examples, {p: named[p].id for p in apart}, score)
    memory.replace_exemplars(told(taught))
    store_head(memory)
    return Learnt(
        len(taught),
        list(added.values()),
        examples.encoded,
        examples.unreadable,
        len(apart) if len(apart) >= FEWEST_APART else 0,
        before,
        after,
    )


def with_exemplars(vectors: MemoryVectors, exemplars: ExemplarSet) -> MemoryVectors:
    """Return the vectors of a memory with other exemplars, of its categories."""
    rows = {category.id: row for row, category in enumerate(vectors.categories)}
    owners = np.array([rows[category_id] for category_id in exemplars.category_ids], np.int64)
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(vectors.categories))
    return replace(
        vectors,
        exemplar_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        exemplars=np.ascontiguousarray(exemplars.vectors[order]),
        exemplar_hashes=[exemplars.hashes[place] for place in order],
        exemplar_references=[exemplars.references[place] for place in order],
    )


def _encoded(
    encoder: Encoder,
    images: Sequence[ImageItem],
    boxes: Sequence[BoxItem],
    settings: Settings,
    features: FeatureStore | None,
) -> Iterator[EncodedBatch]:
    size = settings.run.batch_size
    if images:
        yield from encode_or_read(
            encoder,
            in_batches(images, size),
            features=features,
            workers=settings.run.workers,
            limits=settings.images,
        )
    if boxes:
        batches = ((number, boxes[start : start + size]) for number, start in enumerate(range(0, len(boxes), size)))
        yield from encode_boxes(encoder, batches, settings=settings, features=features)


def _accuracy(vectors: MemoryVectors, examples: Examples, wanted: Mapping[int, str], score: ScoreSettings) -> float:
    """Return the share of some examples whose best category is the one that was said."""
    settings = score.model_copy(update=chosen_settings(vectors))
    scorer = Scorer(vectors, settings)
    right = 0
    for features, places in examples.batches:
        chosen = [row for row, place in enumerate(places) if place in wanted]
        if chosen:
            best = scorer.score(features.take(np.array(chosen))).argmax(1)
            right += sum(
                vectors.categories[category].id == wanted[places[row]]
                for row, category in zip(chosen, best.tolist(), strict=True)
            )
    return right / len(wanted)


def _is_apart(key: str) -> bool:
    """Say whether a correction is one to measure on; the same ones each time."""
    return hashlib.sha256(key.encode()).digest()[0] % KEPT_APART == 0


def _category(correction: Correction) -> Category:
    assert correction.new is not None
    return Category(correction.new, correction.group)


def _content(item: ImageItem, digest: str) -> str:
    if not isinstance(item, BoxItem) or item.box is None:
        return digest
    return hashlib.sha256(f"{digest} {list(item.box.xyxy)}".encode()).hexdigest()


def _corners(xyxy: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = xyxy
    return x0, y0, x1, y1
