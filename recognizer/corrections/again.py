"""The results of a folder once more, after the memory has learnt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from memory import Memory
from memory.errors import printable_path
from recognizer.boxes.given import GivenBox
from recognizer.boxes.plan import BoxItem
from recognizer.boxes.rows import recognized_boxes
from recognizer.corrections.learn import Learnt, learn, read_examples
from recognizer.corrections.log import Correction
from recognizer.encoder import Encoder
from recognizer.errors import RecognizerError
from recognizer.features import FeatureStore, encode_or_read
from recognizer.images import ImageItem
from recognizer.images.key import key_from_display
from recognizer.images.rooted import path_under
from recognizer.memory_settings import calibration_problem
from recognizer.pipeline import in_batches
from recognizer.recognizer import Recognizer
from recognizer.reranking.file import EarlierResults
from recognizer.results import BatchTiming, ResultRow, Row, RunSetup, check_output, open_results
from recognizer.settings import Settings

_BATCH = 512  # rows whose stored features are looked for, and that are written, together


@dataclass(frozen=True, slots=True)
class Change:
    """A row whose label is another one now."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ScoredAgain:
    """What became of the rows.

    Attributes:
        scored: rows that were scored again; the others are as they were.
        kept: images that were not, because their features are not stored and no candidate of theirs is touched.
        encoded: images of those that had no stored features.
        changes: rows whose label is another one now.
    """

    scored: int
    kept: int
    encoded: int
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learnt, and what became of the results.

    Attributes:
        learnt: by the memory.
        scored: the rows.
        problem: a sentence where the memory has a calibration that was fitted without these exemplars, or empty.
    """

    learnt: Learnt
    scored: ScoredAgain
    problem: str


def learn_again(
    memory: str | Path,
    encoder: Encoder,
    earlier: EarlierResults,
    said: Mapping[str, Correction],
    output: Path,
    *,
    settings_of: Callable[[Memory], Settings],
    features: FeatureStore | None,
    source: Path,
    warn: Callable[[str], None],
) -> Lesson:
    """Teach a memory what was corrected, and write the results anew.

    Args:
        memory: directory or address of the memory.
        encoder: that of the memory.
        earlier: the results that were corrected.
        said: the last correction of each row, by its key.
        output: of the new results, in JSON lines.
        settings_of: the settings for a memory; those of the run's candidates are taken over.
        features: stored ones, which are used and added to.
        source: of the corrections, for the run.json.
        warn: called with a sentence per image that could not be used.

    Raises:
        RecognizerError: there is nothing to learn from.
    """
    opened = Memory.open(memory)
    settings = settings_of(opened)
    examples = read_examples(encoder, said, earlier.rows, earlier.root, settings=settings, features=features)
    for sentence in examples.unreadable:
        warn(f"left out: {sentence}")
    learnt = learn(opened, encoder, examples, score=settings.score)
    fresh = Memory.open(memory)
    touched = {one.new for one in said.values() if one.new is not None}
    corrected = {one.key if one.xyxy is None else one.path for one in said.values()}
    recognizer = Recognizer(encoder, fresh, settings=with_run_of(settings_of(fresh), earlier), features=features)
    return Lesson(
        learnt,
        score_again(recognizer, earlier, output, touched=touched, corrected=corrected, source=source, warn=warn),
        calibration_problem(fresh),
    )


def learnt_path(results: Path) -> Path:
    """Return a file of JSON lines for the results after learning that is not there yet, so that earlier ones stay."""
    suffix = results.suffix if results.suffix.lower() in (".jsonl", ".ndjson", ".json") else ".jsonl"
    names = chain([f"{results.stem}.learnt"], (f"{results.stem}.learnt-{number}" for number in count(2)))
    paths = (results.with_name(f"{name}{suffix}") for name in names)
    return next(path for path in paths if not path.exists())


def require_new(output: Path) -> None:
    """Refuse a file for new results that exists or cannot be written, before anything is learnt.

    Raises:
        RecognizerError: it exists.
        OutputUnusable: it cannot be written.
    """
    if output.exists():
        raise RecognizerError(
            f"{printable_path(output)} exists, and learning writes new results; name another file as --output, or "
            "delete this one"
        )
    check_output(output, "jsonl")


def with_run_of(settings: Settings, earlier: EarlierResults) -> Settings:
    """Return settings with as many candidates and pieces of evidence as earlier results have."""
    run = earlier.info.settings.get("run", {})
    kept = {name: run[name] for name in ("top_k", "evidence") if name in run}
    return settings.model_copy(update={"run": settings.run.model_copy(update=kept)})


def score_again(
    recognizer: Recognizer,
    earlier: EarlierResults,
    output: Path,
    *,
    touched: Collection[str],
    corrected: Collection[str] = (),
    source: Path,
    warn: Callable[[str], None],
) -> ScoredAgain:
    """Write the results anew.

    A head that was fitted to more exemplars can change any image, so every image whose features are stored is scored
    again; of the others those are encoded that were corrected or have a touched category among their candidates.

    Args:
        recognizer: with the memory that has learnt, and the stored features.
        earlier: the results.
        output: of the new ones, in JSON lines.
        touched: names of categories with other exemplars than before.
        corrected: keys of the rows of which something was said.
        source: of the corrections, for the run.json.
        warn: called with a sentence about the output.
    """
    memory = recognizer.memory
    setup = RunSetup(
        command=sys.argv,
        model=earlier.info.model,
        memory={
            **earlier.info.memory,
            "path": str(memory.location),
            "version": memory.version,
            "categories": memory.info().categories,
            "digest": memory.digest,
        },
        settings={**earlier.info.settings, "learnt": str(source)},
        device=earlier.info.device,
        input_root=str(earlier.root),
        category_ids=earlier.info.category_ids,
        image_ids=earlier.info.image_ids,
    )
    before = 0 if recognizer.features is None else recognizer.features.encoded
    scored, kept, without_store, changes = 0, 0, 0, []
    sink = open_results(
        output,
        keys=[row.key for row in earlier.rows],
        setup=setup,
        output_format="jsonl",
        overwrite=True,
        warn=warn,
    )
    with sink:
        for start in range(0, len(earlier.rows), _BATCH):
            rows = earlier.rows[start : start + _BATCH]
            new = dict(_new_rows(recognizer, rows, earlier.root, touched, corrected))
            scored += len(new)
            kept += sum(isinstance(row, ResultRow) and row.key not in new for row in rows)
            without_store += len(new) if recognizer.features is None else 0
            written = [new.get(row.key, row) for row in rows]
            changes += [
                Change(row.key, row.label, now.label)
                for row, now in zip(rows, written, strict=True)
                if row.label != now.label
            ]
            sink.write(written, timing=BatchTiming(decode_s=0, encode_s=0, score_s=0))
        sink.finish()
    encoded = without_store if recognizer.features is None else recognizer.features.encoded - before
    return ScoredAgain(scored, kept, encoded, changes)


def _new_rows(
    recognizer: Recognizer, rows: Sequence[Row], root: Path, touched: Collection[str], corrected: Collection[str]
) -> Iterator[tuple[str, Row]]:
    """Yield the keys and the new rows of those that are scored again."""
    images: list[ImageItem] = []
    boxes: list[BoxItem] = []
    for row in rows:
        path = path_under(root, key_from_display(row.path))
        if path is None or not isinstance(row, ResultRow) or row.status == "empty":
            continue
        if row.box is None:
            images.append(ImageItem(key_from_display(row.path), path))
        elif row.box.xyxy is not None and (row.key in corrected or _is_touched(row, touched)):
            x0, y0, x1, y1 = row.box.xyxy
            boxes.append(BoxItem(key_from_display(row.path), path, GivenBox(image=row.path, xyxy=(x0, y0, x1, y1))))
    by_key = {row.key: row for row in rows}
    stored = [False] * len(images) if recognizer.features is None else recognizer.features.has(images)
    chosen = [
        image
        for image, is_stored in zip(images, stored, strict=True)
        if is_stored or image.key in corrected or _is_touched(by_key[image.key], touched)
    ]
    settings = recognizer.settings
    batches = encode_or_read(
        recognizer.encoder,
        in_batches(chosen, settings.run.batch_size),
        features=recognizer.features,
        workers=settings.run.workers,
        limits=settings.images,
    )
    for batch in batches:
        yield from ((row.key, row) for row in recognizer.batch_rows(batch) if isinstance(row, ResultRow))
    given = {(row.path, tuple(row.box.xyxy)): row.box for row in rows if row.box is not None and row.box.xyxy}
    for _, found, _ in recognized_boxes(recognizer, in_batches(boxes, settings.run.batch_size)):
        for row in found:
            if isinstance(row, ResultRow) and row.box is not None and row.box.xyxy is not None:
                named = replace(row, box=given[row.path, tuple(row.box.xyxy)])
                yield named.key, named


def _is_touched(row: Row, touched: Collection[str]) -> bool:
    return any(candidate.category in touched for candidate in row.candidates)
