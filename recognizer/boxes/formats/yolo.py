"""YOLO: a folder with a text file per image, a line per box: class, then centre and size as shares of the image.

A line of more numbers is an outline (https://docs.ultralytics.com/datasets/segment), whose bounding box is taken.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

from memory.errors import LabelError, printable_path
from memory.labels.rows import read_text
from recognizer.boxes.errors import BoxFileError
from recognizer.boxes.formats.coco import NO_BOX
from recognizer.boxes.given import BoxFile, GivenBox, to_confidence, to_number

NAMES = ("classes.txt", "obj.names", "labels.txt")
"""Files with the name of each class, one a line, as labelling tools write them beside the boxes."""
UNREADABLE = "files that cannot be read"


def read_yolo(folder: Path) -> BoxFile:
    """Read the text files of a folder, at any depth; `a/b.txt` holds the boxes of the image `a/b`, of any suffix.

    Raises:
        BoxFileError: the folder has no text file.
    """
    files = sorted(path for path in folder.rglob("*.txt") if path.name not in NAMES and path.is_file())
    if not files:
        raise BoxFileError(f"{printable_path(folder)} has no .txt file, as YOLO writes one per image")
    names = next((_lines(folder / name) for name in NAMES if (folder / name).is_file()), [])
    boxes: list[GivenBox] = []
    left_out: Counter[str] = Counter()
    for path in files:
        image = os.fspath(path.relative_to(folder).with_suffix("")).replace(os.sep, "/")
        try:
            lines = _lines(path)
        except LabelError:
            left_out[UNREADABLE] += 1
            continue
        for line in filter(str.strip, lines):
            words = line.split()
            if len(words) < 5:
                left_out[NO_BOX] += 1
                continue
            number = to_number(words[0])
            known = number.is_integer() and 0 <= number < len(names)
            xyxy, confidence = _shape([to_number(word) for word in words[1:]])
            boxes.append(
                GivenBox(
                    image=image,
                    xyxy=xyxy,
                    shares=True,
                    category=names[int(number)].strip() if known else words[0],
                    confidence=confidence,
                    category_id=words[0],
                )
            )
    categories: dict[int | str, str] = {str(number): name.strip() for number, name in enumerate(names)}
    return BoxFile(
        path=folder, format="YOLO text files", boxes=boxes, by="stem", left_out=left_out, categories=categories
    )


def _shape(numbers: list[float]) -> tuple[tuple[float, float, float, float], float | None]:
    """Return the box of a line, and its confidence where it has one: a number more than the shape takes."""
    confidence = to_confidence(numbers[-1]) if len(numbers) % 2 else None
    shape = numbers[:-1] if len(numbers) % 2 else numbers
    if len(shape) == 4:
        x, y, width, height = shape
        return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), confidence
    xs, ys = shape[::2], shape[1::2]
    if any(map(math.isnan, shape)):
        return (math.nan,) * 4, confidence
    return (min(xs), min(ys), max(xs), max(ys)), confidence


def _lines(path: Path) -> list[str]:
    return read_text(path).splitlines()
