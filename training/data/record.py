"""One training sample: as stored, checked as a `Record` of captions and described boxes, or rejected and counted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class BadSample(Exception):
    """A sample that cannot be used.

    Attributes:
        reason: a short constant text, the same for every sample with the same fault, so that faults can be counted.
    """

    def __init__(self, reason: str) -> None:
        """Store the reason."""
        self.reason = reason
        super().__init__(reason)


NO_CAPTION = "no caption"
"""Why a sample without any usable caption is left out."""


@dataclass(slots=True)
class Rejects:
    """Counts of the data that was left out.

    Attributes:
        seen: number of samples read, good and bad.
        samples: number of bad samples by reason.
        parts: by reason, the number of parts left out of good samples (a region, one of several captions), and of
            shards that end early.
    """

    seen: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> int:
        """Count the bad samples."""
        return self.samples.total()

    def add(self, other: Rejects) -> None:
        """Add the counts of another."""
        self.seen += other.seen
        self.samples.update(other.samples)
        self.parts.update(other.parts)

    def report(self) -> str:
        """Say in one line how many samples were bad and why; reasons by falling count."""
        text = f"{self.bad} of {self.seen} samples could not be used" + _listed(self.samples)
        return text + (f"; left out of the others{_listed(self.parts)}" if self.parts else "")

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return {"seen": self.seen, "samples": dict(self.samples), "parts": dict(self.parts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rejects:
        """Rebuild the counts from the values of `to_json`."""
        return cls(value["seen"], Counter(value["samples"]), Counter(value["parts"]))


def _listed(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ": " + ", ".join(f"{reason} {count}" for reason, count in ordered) if counts else ""


BoxXYXY = tuple[float, float, float, float]
Fields = Mapping[str, Any]

_TOLERANCE = 1.0  # pixels a box may reach beyond its image, because tools round coordinates; it is then clipped


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as stored.

    Attributes:
        key: identifies the sample in messages: a path, or a shard and a key in it.
        image: the bytes of the image file.
        fields: the unchecked values of its JSON object.
    """

    key: str
    image: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class Region:
    """A box and its descriptions.

    Attributes:
        box_xyxy: x0 < x1 and y0 < y1 in pixels of the displayed image, inside it.
        descriptions: at least one; all distinct, none empty.
        score: confidence of the annotation, 0 to 1.
    """

    box_xyxy: BoxXYXY
    descriptions: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Record:
    """The texts and boxes of one image: at least one caption, any number of regions with distinct boxes."""

    captions: tuple[str, ...]
    regions: tuple[Region, ...]


def make_record(fields: Fields, image_size_hw: tuple[int, int], rejects: Rejects) -> Record:
    """Check the fields of one sample; the only place where captions, boxes and descriptions are filtered.

    A box is filtered together with its descriptions, so that they never get out of step. Regions with the same box are
    merged into one with several descriptions.

    Args:
        fields: `captions` (texts) or `caption` (one text), and optionally `regions`, each with `box_xyxy` (four
            numbers), `description` or `descriptions`, and optionally `score` (default 1).
        image_size_hw: height and width of the displayed image, in pixels.
        rejects: its `parts` are increased for everything left out.

    Raises:
        BadSample: the sample has no usable caption.
    """
    captions = _texts(fields, "caption", rejects)
    if not captions:
        raise BadSample(NO_CAPTION)
    regions: dict[BoxXYXY, Region] = {}
    for value in _list(fields.get("regions")):
        try:
            region = _region(value, image_size_hw, rejects)
        except BadSample as fault:
            rejects.parts[fault.reason] += 1
            continue
        regions[region.box_xyxy] = _merged(regions.get(region.box_xyxy), region)
    return Record(captions, tuple(regions.values()))


def to_fields(record: Record) -> dict[str, Any]:
    """Return the record as JSON values that `make_record` reads."""
    regions = [
        {"box_xyxy": list(region.box_xyxy), "descriptions": list(region.descriptions), "score": region.score}
        for region in record.regions
    ]
    return {"captions": list(record.captions), "regions": regions}


def _region(value: object, image_size_hw: tuple[int, int], rejects: Rejects) -> Region:
    if not isinstance(value, Mapping):
        raise BadSample("region that is not an object")
    box_xyxy = _box(value.get("box_xyxy"), image_size_hw)
    score = value.get("score", 1.0)
    if not _is_number(score) or not 0 <= score <= 1:
        raise BadSample("score that is not a number from 0 to 1")
    descriptions = _texts(value, "description", rejects)
    if not descriptions:
        raise BadSample("region without a description")
    return Region(box_xyxy, descriptions, float(score))


def _box(value: object, image_size_hw: tuple[int, int]) -> BoxXYXY:
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_is_number, value)):
        raise BadSample("box that is not four numbers")
    x0, y0, x1, y1 = map(float, value)
    height, width = image_size_hw
    if x1 <= x0 or y1 <= y0:
        raise BadSample("box with x1 <= x0 or y1 <= y0")
    if min(x0, y0) < -_TOLERANCE or x1 > width + _TOLERANCE or y1 > height + _TOLERANCE:
        raise BadSample("box outside the image")
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if x1 <= x0 or y1 <= y0:
        raise BadSample("box outside the image")
    return x0, y0, x1, y1


def _texts(fields: Fields, name: str, rejects: Rejects) -> tuple[str, ...]:
    """Return the texts of the plural and the singular field, stripped and distinct; all others are counted."""
    values = [*_list(fields.get(f"{name}s")), *([fields[name]] if name in fields else [])]
    texts: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str) or not value.strip():
            rejects.parts[f"empty {name}"] += 1
        elif not _is_unicode(value):
            rejects.parts[f"{name} that is not Unicode text"] += 1
        else:
            texts[value.strip()] = None
    return tuple(texts)


def _is_unicode(text: str) -> bool:
    """Tell whether a text has no lone surrogates, which JSON can hold and tokenizers refuse."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _merged(earlier: Region | None, region: Region) -> Region:
    if earlier is None:
        return region
    descriptions = tuple(dict.fromkeys((*earlier.descriptions, *region.descriptions)))
    return Region(region.box_xyxy, descriptions, max(earlier.score, region.score))


def _list(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _is_number(value: object) -> bool:
    """Tell whether a value is a finite number that a float can hold; JSON has integers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
