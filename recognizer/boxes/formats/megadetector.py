"""MegaDetector and SpeciesNet: boxes are left, top, width, height as shares of the image, with a confidence.

The formats: https://lila.science/megadetector-output-format and the README of https://github.com/google/cameratrapai.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recognizer.boxes.formats.coco import NO_BOX, NO_IMAGE
from recognizer.boxes.given import BoxFile, GivenBox, from_corner, to_confidence, to_text

MEGADETECTOR, SPECIESNET = "MegaDetector", "SpeciesNet"
FAILED = "images that the detector failed on"


def read_megadetector(path: Path, document: Mapping[str, Any]) -> BoxFile:
    """Read results of MegaDetector: images with `file` and `detections`."""
    names = document.get("detection_categories")
    known = names if isinstance(names, dict) else {}
    categories: dict[int | str, str] = {str(key): str(name) for key, name in known.items()}
    return _read(path, MEGADETECTOR, document, document["images"], "file", categories)


def read_speciesnet(path: Path, document: Mapping[str, Any]) -> BoxFile:
    """Read predictions of SpeciesNet: images with `filepath` and `detections`, which have a `label`."""
    return _read(path, SPECIESNET, document, document["predictions"], "filepath", {})


def sure_boxes(file: BoxFile, least: float) -> BoxFile:
    """Return a file of MegaDetector or SpeciesNet without boxes of less confidence; other files as they are."""
    if file.format not in (MEGADETECTOR, SPECIESNET):
        return file
    kept = [box for box in file.boxes if box.confidence is None or box.confidence >= least]
    less = len(file.boxes) - len(kept)
    what = f"boxes of confidence below {least:g} (boxes.least_confidence)"
    left_out = Counter(file.left_out) + Counter({what: less})
    return replace(file, boxes=kept, left_out=left_out)


def _read(
    path: Path,
    name: str,
    document: Mapping[str, Any],
    images: Sequence[Any],
    file_field: str,
    categories: dict[int | str, str],
) -> BoxFile:
    boxes: list[GivenBox] = []
    left_out: Counter[str] = Counter()
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get(file_field), str):
            left_out[NO_IMAGE] += 1
            continue
        detections = image.get("detections")
        if detections is None and (image.get("failure") or image.get("failures")):
            left_out[FAILED] += 1
        for place, entry in enumerate(detections if isinstance(detections, list) else ()):
            if not isinstance(entry, dict) or "bbox" not in entry:
                left_out[NO_BOX] += 1
                continue
            category = to_text(entry.get("category"))
            boxes.append(
                GivenBox(
                    image=image[file_field],
                    xyxy=from_corner(entry["bbox"]),
                    shares=True,
                    category=to_text(entry.get("label")) or categories.get(category or "", category),
                    confidence=to_confidence(entry.get("conf")),
                    category_id=category,
                    place=(number, place),
                )
            )
    return BoxFile(path=path, format=name, boxes=boxes, left_out=left_out, categories=categories, document=document)
