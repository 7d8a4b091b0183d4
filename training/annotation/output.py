"""The annotated images as a manifest or shards that training reads, with what made each of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory.durable import replacing
from recognizer.images import ImageError
from recognizer.images.file_bytes import read_file_bytes
from training.annotation.detector import DETECT_STAGE, Detector
from training.annotation.gates import is_too_large
from training.annotation.inputs import BareImage, BareImages
from training.annotation.stage import CHANGED, Facts, Json, Stage, Work
from training.annotation.texts import TextRules
from training.data.manifest import write_lines
from training.data.record import BadSample, Rejects, make_record, to_fields
from training.data.shards import ShardSample, write_shards
from training.errors import DataError

MANIFEST_SUFFIX = ".jsonl"
# Files that somebody may want; without this they would become folders of shards of that name.
_OTHER_FILES = frozenset({".json", ".csv", ".txt", ".tar", ".parquet", ".tsv", ".zip"})
_ALL_RECORDED = frozenset(["model", "prompt", "threshold", "nms_iou", "image_size", "fingerprint", "precision"])


@dataclass(slots=True)
class Report:
    """What became of the images.

    Attributes:
        images: number of images.
        records: number of images that were written.
        boxes: number of described boxes.
        counts: what was left out or mended, by reason.
        left_out: reason by path, of images that were not written.
    """

    images: int = 0
    records: int = 0
    boxes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How results become records.

    Attributes:
        stages: all stages, in order.
        rules: of texts.
        detector: shortened the texts.
        most_boxes: boxes of an image that are kept, those of the highest scores.
        sources: further facts for every record, such as the file of descriptions.
    """

    stages: Sequence[Stage]
    rules: TextRules
    detector: Detector
    most_boxes: int
    sources: Mapping[str, Json]

    def fields(self, image: BareImage, facts: Facts, results: Mapping[str, Json], report: Report) -> dict[str, Any]:
        """Return the record of an image as JSON values that `training.data.record.make_record` reads.

        Raises:
            BadSample: the image has no caption.
        """
        counts = report.counts
        captions = self.rules.captions(image, results, counts)
        regions = [*image.regions, *self._regions(image, facts, results, counts)]
        rejects = Rejects()
        record = make_record({"captions": captions, "regions": regions}, facts.displayed_size_hw, rejects)
        counts.update(rejects.parts)
        counts["image without a box"] += not record.regions
        made_by = {
            stage.name: {name: value for name, value in stage.settings.items() if name in _ALL_RECORDED}
            for stage in self.stages
            if stage.name in results
        }
        return {
            **to_fields(record),
            "annotation": {"original_captions": len(image.captions), **made_by, **self.sources},
        }

    def _regions(
        self, image: BareImage, facts: Facts, results: Mapping[str, Json], counts: Counter[str]
    ) -> list[dict[str, Any]]:
        texts = self.rules.to_detect(image, results, counts)
        found = results.get(DETECT_STAGE)
        if found is None:
            return []
        counts["description shortened for the detector"] += sum(
            len(short.split()) < len(text.split())
            for short, text in zip(self.detector.shortened(texts), texts, strict=True)
        )
        boxes: list[tuple[float, list[float], str]] = []
        for text, of_text in zip(texts, found, strict=True):
            counts["description without a box"] += not of_text
            for *box_xyxy, score in of_text:
                if is_too_large(box_xyxy, facts.displayed_size_hw, self.rules.gates):
                    counts["box that covers nearly everything"] += 1
                else:
                    boxes.append((score, box_xyxy, text))
        best = sorted(boxes, key=lambda each: -each[0])
        # Texts of one box are one region, which is kept or left out as a whole.
        kept = list(dict.fromkeys(tuple(box_xyxy) for _, box_xyxy, _ in best))[: self.most_boxes]
        counts["box beyond the best"] += sum(tuple(box_xyxy) not in kept for _, box_xyxy, _ in best)
        return [
            {"box_xyxy": box_xyxy, "description": text, "score": score}
            for score, box_xyxy, text in best
            if tuple(box_xyxy) in kept
        ]


def check_output(output: Path, store: Path, images: BareImages, inputs: Sequence[str]) -> None:
    """Refuse to replace what `annotate` has not written.

    Raises:
        DataError: the output is an input, has the name of a file of another format, or is there without the store that
            would stand beside it.
    """
    if output.suffix.lower() in _OTHER_FILES:
        raise DataError(
            f"{output}: annotate writes a manifest (NAME.jsonl) or a folder of shards; name one as --output"
        )
    if any(os.path.abspath(each) == os.path.abspath(output) for each in inputs):
        raise DataError(f"{output} is the input; name another --output")
    shards = output.suffix != MANIFEST_SUFFIX
    is_there = any(output.glob("*.tar")) if shards else output.exists()
    if output.exists() and output.is_dir() != shards:
        raise DataError(f"{output}: a manifest ends in {MANIFEST_SUFFIX}, and shards are written into a folder")
    if is_there and not store.exists():
        raise DataError(f"{output} is there and was not written by annotate; name another --output, or move it away")


def write_output(output: Path, recipe: Recipe, work: Work) -> Report:
    """Write a manifest (`.jsonl`) or a folder of shards; the same results give the same bytes.

    Returns:
        What became of the images.

    Raises:
        DataError: no image could be used.
        WriteFailed: the disk refuses.
    """
    report = Report(images=len(work.images))
    if output.suffix == MANIFEST_SUFFIX:
        write_lines(output, _manifest_lines(output, recipe, work, report))
    else:
        write_shards(_shard_samples(recipe, work, report), output)
    report.counts = +report.counts
    return report


def write_report(path: Path, report: Report, recipe: Recipe, unanswered: Mapping[tuple[str, str], int]) -> None:
    """Write settings and counts as JSON, beside the output."""
    content = {
        "stages": {stage.name: dict(stage.settings) for stage in recipe.stages},
        "sources": dict(recipe.sources),
        "images": report.images,
        "records": report.records,
        "boxes": report.boxes,
        "counts": dict(sorted(report.counts.items())),
        "unanswered": {f"{stage}: {reason}": count for (stage, reason), count in sorted(unanswered.items())},
        "left_out": report.left_out,
    }
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _records(recipe: Recipe, work: Work, report: Report) -> Iterator[tuple[BareImage, Facts, dict[str, Any]]]:
    for image in work.images:
        item = image.item
        facts = work.facts(item)
        if facts is None:
            _leave_out(report, image, work.failures.get(item.key_bytes, CHANGED))
            continue
        try:
            fields = recipe.fields(image, facts, work.results(recipe.stages, image, facts), report)
        except BadSample as fault:
            _leave_out(report, image, fault.reason)
            continue
        yield image, facts, fields


def _manifest_lines(output: Path, recipe: Recipe, work: Work, report: Report) -> Iterator[dict[str, Any]]:
    folder = os.fsencode(os.path.abspath(output.parent))
    for image, _, fields in _records(recipe, work, report):
        # Relative where the images lie below the manifest, so that both can be moved together.
        path = os.path.abspath(image.item.path)
        inside = path.startswith(os.path.join(folder, b""))
        try:
            name = (os.path.relpath(path, folder) if inside else path).decode("utf-8")
        except UnicodeDecodeError:
            _leave_out(report, image, "path that is not UTF-8, which a manifest cannot name; write shards")
            continue
        _count(report, fields)
        yield {"image": name, **fields}


def _shard_samples(recipe: Recipe, work: Work, report: Report) -> Iterator[ShardSample]:
    for image, _, fields in _records(recipe, work, report):
        try:
            data = read_file_bytes(image.item.path, max_bytes=work.limits.max_file_bytes)
        except ImageError as error:
            _leave_out(report, image, error.code)
            continue
        key = f"{report.records:09d}"
        _count(report, fields)
        yield ShardSample(key, data, {**fields, "path": image.item.key})


def _count(report: Report, fields: Mapping[str, Any]) -> None:
    report.records += 1
    report.boxes += len(fields["regions"])


def _leave_out(report: Report, image: BareImage, reason: str) -> None:
    report.left_out[image.item.key] = reason
    report.counts[f"image left out: {reason}"] += 1
