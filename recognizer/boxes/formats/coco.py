"""COCO and LVIS: annotations with the images that they belong to, and detections, a bare list.

Boxes are left, top, width, height in pixels (https://cocodataset.org/#format-data, https://www.lvisdataset.org/dataset).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from memory.errors import printable_path
from recognizer.boxes.errors import BoxFileError
from recognizer.boxes.given import BoxFile, GivenBox, from_corner, to_area, to_confidence, to_id, to_number, to_text

NO_IMAGE = "entries that name no image of the file"
NO_BOX = "entries without a box"


def read_annotations(path: Path, document: Mapping[str, Any]) -> BoxFile:
    """Read annotations; those of LVIS name an image by its address, of which the file's name is taken."""
    images = {to_id(image["id"]): image for image in document["images"] if isinstance(image, dict) and "id" in image}
    categories = category_names(document)
    boxes: list[GivenBox] = []
    left_out: Counter[str] = Counter()
    for number, entry in enumerate(document["annotations"]):
        if not isinstance(entry, dict) or "bbox" not in entry:
            left_out[NO_BOX] += 1
            continue
        image_id = to_id(entry.get("image_id"))
        name = image_name(images.get(image_id))
        if image_id is None or name is None:
            left_out[NO_IMAGE] += 1
            continue
        category_id = to_id(entry.get("category_id"))
        boxes.append(
            GivenBox(
                image=name,
                xyxy=from_corner(entry["bbox"]),
                frame_hw=_frame(images[image_id]),
                category=None if category_id is None else categories.get(category_id, str(category_id)),
                confidence=to_confidence(entry.get("score")),
                is_crowd=bool(entry.get("iscrowd", 0)),
                area=to_area(entry.get("area")),
                image_id=image_id,
                category_id=category_id,
                annotation_id=to_id(entry.get("id", number)),
            )
        )
    lvis = any(isinstance(each, dict) and "frequency" in each for each in document.get("categories") or ())
    return BoxFile(
        path=path,
        format="LVIS annotations" if lvis else "COCO annotations",
        boxes=boxes,
        left_out=left_out,
        categories=categories,
        document=document,
    )


def read_detections(path: Path, document: Sequence[Any], images: BoxFile | None = None) -> BoxFile:
    """Read detections.

    Args:
        path: the file.
        document: its content.
        images: annotations whose images the detections mean; None: an image is known by its file name, where an entry
            has one, else by its number, which is its name.

    Raises:
        BoxFileError: it is a list of something else.
    """
    entries = [entry for entry in document if isinstance(entry, dict) and "bbox" in entry and "image_id" in entry]
    if document and not entries:
        raise BoxFileError(
            f"{printable_path(path)} is a list, but not of detections, which have image_id, category_id, bbox and score"
        )
    known = {} if images is None else {to_id(each.get("id")): each for each in images.document["images"]}
    categories = {} if images is None else images.categories
    by_name = images is not None or all(isinstance(entry.get("file_name"), str) for entry in entries)
    boxes: list[GivenBox] = []
    left_out = Counter({NO_BOX: len(document) - len(entries)} if len(entries) < len(document) else {})
    for entry in entries:
        image_id, category_id = to_id(entry["image_id"]), to_id(entry.get("category_id"))
        name = to_text(entry.get("file_name") if images is None and by_name else image_id)
        if images is not None:
            name = image_name(known.get(image_id))
        if name is None:
            left_out[NO_IMAGE] += 1
            continue
        boxes.append(
            GivenBox(
                image=name,
                xyxy=from_corner(entry["bbox"]),
                frame_hw=_frame(known[image_id]) if images is not None else None,
                category=None if category_id is None else categories.get(category_id, str(category_id)),
                confidence=to_confidence(entry.get("score")),
                image_id=image_id,
                category_id=category_id,
            )
        )
    return BoxFile(
        path=path,
        format="COCO detections",
        boxes=boxes,
        by="path" if by_name else "stem",
        left_out=left_out,
        categories=categories,
    )


def category_names(document: Mapping[str, Any]) -> dict[int | str, str]:
    """Return the name of each category by its id."""
    names: dict[int | str, str] = {}
    for category in document.get("categories") or ():
        if isinstance(category, dict):
            key, name = to_id(category.get("id")), to_text(category.get("name"))
            if key is not None and name is not None:
                names[key] = name
    return names


def image_name(image: Mapping[str, Any] | None) -> str | None:
    """Return the path of an image: its file name, or the last two parts of LVIS's address, such as val2017/1.jpg."""
    if image is None:
        return None
    if isinstance(image.get("file_name"), str):
        return str(image["file_name"])
    address = image.get("coco_url")
    return "/".join(urlsplit(address).path.split("/")[-2:]) if isinstance(address, str) else None


def _frame(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = to_number(image.get("height")), to_number(image.get("width"))
    return (int(height), int(width)) if 0 < height < 2**31 and 0 < width < 2**31 else None
