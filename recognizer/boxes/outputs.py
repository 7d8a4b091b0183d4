"""Results of boxes in the formats of other tools: COCO results, and MegaDetector's JSON with classifications."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memory import Category
from memory.durable import replacing
from memory.lineage import join_levels, levels
from recognizer.boxes.given import BoxFile
from recognizer.boxes.plan import BoxItem
from recognizer.evaluation.labelled import CategoryNames
from recognizer.results.row import ROLLED_UP, ErrorRow, ResultRow, Row

MEGADETECTOR_VERSION = "1.6"
_NO_CATEGORY = "object"
_DIGITS = 6
# What is wrong with one box says nothing about its image.
_OF_BOXES = frozenset({"E_BOX", "E_FRAME"})


CategoryId = tuple[int | str, str, str | None]
"""The id that a file of boxes gives to a category, with its name and group; the group of a name that the memory does
not have is None."""
ImageId = tuple[int | str, str]
"""The id that a file of boxes gives to an image, with the path of its rows."""


def coco_results(
    items: Sequence[BoxItem],
    rows: Iterable[Row],
    ids: Mapping[tuple[str, str], int | str],
    images: Mapping[str, int | str],
) -> Iterator[dict[str, Any]]:
    """Yield a COCO result for each box and each of its candidates.

    Where labels are rolled up, each result of a box also has its label, with the names that rows have. The score is the
    confidence of the category, times that of the detector where there is one. Boxes are in the frame of the file if
    that has pixels, so that they can be compared with its annotations.

    Args:
        items: the boxes of a run.
        rows: one per item, in order.
        ids: of the categories, as `category_ids` returns them.
        images: ids of the images, as `image_ids` returns them.
    """
    for item, row in zip(items, rows, strict=False):
        if item.box is None or not isinstance(row, ResultRow) or row.box is None or row.box.xyxy is None:
            continue
        x0, y0, x1, y1 = row.box.xyxy if item.box.shares else item.box.xyxy
        detected = 1.0 if item.box.confidence is None else item.box.confidence
        rolled = {} if row.source is None else {"label": row.label, "label_confidence": _rounded(row.confidence or 0.0)}
        if row.source is not None:
            rolled |= {"label_level": row.label_level, "label_path": row.label_path, "source": row.source}
            rolled |= {"label_rank": row.label_rank} if row.label_rank else {}
        for candidate in row.candidates:
            yield {
                "image_id": images[row.path] if item.box.image_id is None else item.box.image_id,
                "category_id": ids[candidate.category, candidate.group],
                "bbox": [round(edge, 2) for edge in (x0, y0, x1 - x0, y1 - y0)],
                "score": _rounded(detected * candidate.confidence),
                "file_name": row.path,
                "category_name": candidate.category,
                **rolled,
            }


def file_ids(file: BoxFile, categories: Sequence[Category]) -> list[CategoryId]:
    """Return the ids that a file of boxes gives, each to the one category of the memory that its name fits."""
    rows_of = CategoryNames(categories)
    ids: list[CategoryId] = []
    for key, name in file.categories.items():
        rows = rows_of.rows(name)
        known = categories[rows[0]] if len(rows) == 1 else None
        ids.append((key, name, None) if known is None else (key, known.name, known.group))
    return ids


def category_ids(given: Sequence[CategoryId], named: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int | str]:
    """Return the id of each category by its name and group, the same in all outputs of a run.

    Args:
        given: ids of the file of boxes.
        named: name and group of the categories. Those without an id in the file are counted by name, behind its ids,
            or from 1.
    """
    taken: dict[tuple[str, str], int | str] = {}
    for key, name, group in given:
        if group is not None:
            taken.setdefault((name, group), key)
    free = 1 + max((key for key, _, _ in given if isinstance(key, int)), default=0)
    new = sorted(set(named) - taken.keys())
    return taken | {category: number for number, category in enumerate(new, free)}


def file_image_ids(items: Iterable[BoxItem]) -> list[ImageId]:
    """Return the ids that a file of boxes gives to images; the first one where it gives several to one file."""
    ids: dict[str, int | str] = {}
    for item in items:
        if item.box is not None and item.box.image_id is not None:
            ids.setdefault(item.key, item.box.image_id)
    return [(key, path) for path, key in ids.items()]


def image_ids(given: Iterable[ImageId], paths: Iterable[str]) -> dict[str, int | str]:
    """Return the id of each image by its path, the same in all outputs of a run.

    Args:
        given: ids of the file of boxes.
        paths: of all rows, in any order. Those without an id in the file are counted by path, behind its ids, or from
            1; so images that were recognised in another order have the same ids.
    """
    taken = {path: key for key, path in given}
    free = 1 + max((key for key in taken.values() if isinstance(key, int)), default=0)
    return taken | {path: number for number, path in enumerate(sorted(set(paths) - taken.keys()), free)}


def named_categories(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Yield name and group of each candidate of some rows."""
    return ((each.category, each.group) for row in rows for each in row.candidates)


def write_coco(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO results as one JSON list, a result per line.

    Raises:
        WriteFailed: the disk refuses.
    """
    with replacing(path) as draft, open(draft, "w", encoding="utf-8") as stream:
        separator = "[\n"
        for result in results:
            stream.write(separator + json.dumps(result, ensure_ascii=False).encode("utf-8", "replace").decode())
            separator = ",\n"
        stream.write("\n]\n" if separator != "[\n" else "[]\n")


def megadetector_document(
    items: Sequence[BoxItem], rows: Iterable[Row], file: BoxFile, *, model: str
) -> dict[str, Any]:
    """Return results in MegaDetector's format, with the candidates of each box as its classifications.

    A label that was rolled up to a group is the first one, as in SpeciesNet's results in this format. Paths of groups
    are the descriptions of the classes. Where the boxes came in that format, it is the same document: whatever else it
    holds stays.

    Args:
        items: the boxes of a run.
        rows: one per item, in order.
        file: where the boxes are from.
        model: name of the encoder.
    """
    classes: dict[tuple[str, ...], str] = {}
    paired = list(zip(items, rows, strict=False))
    if file.format == "MegaDetector":
        document = _with_classifications(file, paired, classes)
    else:
        document = _new_document(paired, classes)
    document["classification_categories"] = {number: path[-1] for path, number in classes.items()}
    described = {number: join_levels(path) for path, number in classes.items() if len(path) > 1}
    if described:
        document["classification_category_descriptions"] = described
    information = document.get("info")
    document["info"] = {
        "format_version": MEGADETECTOR_VERSION,
        **(information if isinstance(information, dict) else {}),
        "classifier": model,
    }
    return document


def write_megadetector(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document in MegaDetector's format.

    Raises:
        WriteFailed: the disk refuses.
    """
    with replacing(path) as draft:
        text = json.dumps(document, ensure_ascii=False, indent=1)
        draft.write_bytes(text.encode("utf-8", "replace") + b"\n")


def _with_classifications(
    file: BoxFile, paired: Sequence[tuple[BoxItem, Row]], classes: dict[tuple[str, ...], str]
) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(file.document)
    document.pop("classification_category_descriptions", None)
    found = {item.box.id: row for item, row in paired if item.box is not None}
    for image in document["images"]:
        detections = image.get("detections") if isinstance(image, dict) else None
        for detection in detections if isinstance(detections, list) else ():
            if isinstance(detection, dict):
                detection.pop("classifications", None)
    for box in file.boxes:
        row = found.get(box.id)
        if box.place is not None and isinstance(row, ResultRow):
            image, place = box.place
            document["images"][image]["detections"][place]["classifications"] = _classifications(row, classes)
    return document


def _new_document(paired: Sequence[tuple[BoxItem, Row]], classes: dict[tuple[str, ...], str]) -> dict[str, Any]:
    kinds: dict[str, str] = {}
    images: dict[str, dict[str, Any]] = {}
    for item, row in paired:
        image = images.setdefault(row.path, {"file": row.path, "detections": []})
        if isinstance(row, ErrorRow):
            if row.code not in _OF_BOXES:
                image |= {"detections": None, "failure": f"{row.code}: {row.reason}"}
        elif item.box is not None and row.box is not None and row.box.xyxy is not None and row.width and row.height:
            x0, y0, x1, y1 = row.box.xyxy
            shares = (x0 / row.width, y0 / row.height, (x1 - x0) / row.width, (y1 - y0) / row.height)
            kind = kinds.setdefault(row.box.category or _NO_CATEGORY, str(len(kinds) + 1))
            image["detections"].append(
                {
                    "category": kind,
                    "conf": 1.0 if row.box.confidence is None else row.box.confidence,
                    "bbox": [_rounded(share) for share in shares],
                    "classifications": _classifications(row, classes),
                }
            )
    return {"images": list(images.values()), "detection_categories": {number: name for name, number in kinds.items()}}


def _classifications(row: ResultRow, classes: dict[tuple[str, ...], str]) -> list[list[object]]:
    """Return the label if it is a group, and the candidates, surest first, as pairs of id and confidence.

    Args:
        row: of a box.
        classes: id of each class by its path; new ones are added.
    """
    found = [
        (Category(candidate.category, candidate.group).path, candidate.confidence)
        for candidate in sorted(row.candidates, key=lambda each: -each.confidence)
    ]
    if row.source == ROLLED_UP and row.label_path is not None and row.confidence is not None:
        found.insert(0, (levels(row.label_path), row.confidence))
    return [[classes.setdefault(path, str(len(classes) + 1)), _rounded(confidence)] for path, confidence in found]


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else 0.0
