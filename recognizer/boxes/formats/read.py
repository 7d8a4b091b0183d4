"""Read a file of boxes: its content decides which reader takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memory.errors import LabelError, printable_path
from memory.labels.rows import LabelFile, read_text
from recognizer.boxes.errors import BoxFileError
from recognizer.boxes.formats.coco import read_annotations, read_detections
from recognizer.boxes.formats.megadetector import read_megadetector, read_speciesnet
from recognizer.boxes.formats.table import read_table
from recognizer.boxes.formats.yolo import read_yolo
from recognizer.boxes.given import BoxFile

FORMATS = (
    "COCO or LVIS annotations, COCO detections, JSON of MegaDetector or SpeciesNet, a folder of YOLO text files, or a "
    "CSV file with the columns path,x1,y1,x2,y2"
)


def read_boxes(path: Path) -> BoxFile:
    """Read the boxes of a file, or of a folder of YOLO text files.

    Entries that are boxes of an image, however bad their numbers, are kept: each becomes a row that says what is wrong.

    Raises:
        BoxFileError: it cannot be read, or is of no known format.
    """
    if path.is_dir():
        return read_yolo(path)
    if not path.exists():
        raise BoxFileError(f"{printable_path(path)}: no such file of boxes; expected {FORMATS}")
    try:
        text = read_text(path)
    except LabelError as error:
        raise BoxFileError(f"{error} Expected {FORMATS}.") from error
    if text.lstrip()[:1] in ("{", "["):
        return _read_json(path, text)
    return read_table(LabelFile(path, text))


def read_annotated(path: Path) -> BoxFile:
    """Read annotations of COCO or LVIS.

    Raises:
        BoxFileError: it cannot be read, or is something else.
    """
    file = read_boxes(path)
    if not file.format.endswith("annotations"):
        raise BoxFileError(f"{printable_path(path)} holds {file.format}; figures need annotations of COCO or LVIS")
    return file


def read_detected(path: Path, annotated: BoxFile) -> BoxFile:
    """Read COCO detections, whose images and categories are those of annotations.

    Raises:
        BoxFileError: it cannot be read, or is something else.
    """
    try:
        document = _parse(path, read_text(path))
    except LabelError as error:
        raise BoxFileError(f"{error} Expected COCO detections.") from error
    if not isinstance(document, list):
        raise BoxFileError(f"{printable_path(path)} is no list of COCO detections (image_id, category_id, bbox, score)")
    return read_detections(path, document, annotated)


def _parse(path: Path, text: str) -> Any:  # noqa: ANN401  any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BoxFileError(f"{printable_path(path)} is not valid JSON: {error}") from error


def _read_json(path: Path, text: str) -> BoxFile:
    document = _parse(path, text)
    if isinstance(document, list):
        return read_detections(path, document)
    if isinstance(document.get("predictions"), list):
        return read_speciesnet(path, document)
    if isinstance(document.get("images"), list):
        if isinstance(document.get("annotations"), list):
            return read_annotations(path, document)
        if "detection_categories" in document or all(_has_detections(image) for image in document["images"]):
            return read_megadetector(path, document)
    keys = ", ".join(list(document)[:5]) or "none"
    raise BoxFileError(f"{printable_path(path)} has the keys {keys!a}, which no format has; expected {FORMATS}")


def _has_detections(image: object) -> bool:
    return isinstance(image, dict) and ("detections" in image or "failure" in image)
