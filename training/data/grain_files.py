"""Read the annotation files of GRAIN's released code into a manifest.

usage: python -m training.data.grain_files FOLDER MANIFEST [--images DIR] [--frame 960]

FOLDER has, as `train.py` of github.com/shaunak27/grain-clip reads them:

    captions_*.json    {image: caption of the MLLM}
    bboxes_*.json      {image: [{"description": text, "bbox": [x0, y0, x1, y1], "score": 0 to 1}, ...]}
    captions_*.csv     rows of image and its original caption, without a header; may be missing

Boxes are in pixels of a square frame, by default 960 by 960, into which the detector squashed the image; MANIFEST has
them in pixels of the image. Images are relative to DIR, by default FOLDER. What cannot be used is left out and
counted by its reason; files whose boxes are in another order or unit are refused.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from memory.wording import counted
from recognizer.benchmark.bench import contents
from recognizer.console import note, progress_bar, user_errors
from training.data.manifest import write_manifest
from training.data.record import BadSample, Record, Rejects, make_record
from training.errors import DataError

FRAME = 960.0
"""Side of OWLv2's input (google/owlv2-base-patch16-ensemble), in pixels."""
PADDING = "<pad>"
"""Stands for no description in the queries of the released detector step."""
BULLETS = ".,!? -*"
"""What that step strips from the beginning of a description; answers of the MLLM are lists with dashes."""
# Below this many boxes nothing is said about all of them.
_ENOUGH = 20
# Share of boxes that may be degenerate, or reach beyond the frame by a tenth of it, before the file counts as one in
# another format. Left, top, width, height gives a third or more degenerate ones.
_MOST_ODD = 0.1
_ORIENTATION = 0x0112  # of EXIF
_UPRIGHT = 1


def read_annotations(folder: Path) -> tuple[dict[str, list[object]], dict[str, object]]:
    """Read the files.

    Args:
        folder: of the files.

    Returns:
        By image its captions, the original one first, and its boxes as they are in the file.

    Raises:
        DataError: files are missing, or of another shape.
    """
    files = {kind: sorted(folder.glob(kind)) for kind in ("captions_*.csv", "captions_*.json", "bboxes_*.json")}
    if not files["captions_*.json"] or not files["bboxes_*.json"]:
        raise DataError(f"{folder} has {contents(folder)}; expected captions_*.json and bboxes_*.json")
    captions: dict[str, list[object]] = {}
    for file in files["captions_*.csv"]:
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                # The released code takes rows that name an image; others, such as a header, are none.
                if len(row) > 1 and row[0].lower().endswith((".jpg", ".jpeg", ".png")):
                    captions.setdefault(row[0], []).append(row[1])
    for file in files["captions_*.json"]:
        for image, caption in _object(file).items():
            captions.setdefault(image, []).extend(caption if isinstance(caption, list) else [caption])
    boxes: dict[str, object] = {}
    for file in files["bboxes_*.json"]:
        boxes |= _object(file)
    return captions, boxes


def check_boxes(boxes: Mapping[str, object], frame: float) -> None:
    """Refuse boxes that are in another order or unit than left, top, right, bottom in pixels of the frame.

    Raises:
        DataError: too many are degenerate, they reach beyond the frame, or none comes near its far sides.
    """
    if not frame > 0:
        raise DataError(f"--frame {frame:g} is not a number of pixels above 0")
    xyxy = np.array(list(_numbers(boxes)), np.float64).reshape(-1, 4)
    if len(xyxy) < _ENOUGH:
        return
    largest = float(xyxy.max())
    expected = f"expected left, top, right, bottom in pixels of a frame of {frame:g} by {frame:g}"
    if (xyxy[:, 2:] <= xyxy[:, :2]).any(1).mean() > _MOST_ODD:
        raise DataError(f"the boxes look like left, top, width, height: many end before they begin; {expected}")
    if (xyxy > 1.1 * frame).any(1).mean() > _MOST_ODD or largest < frame / 2:
        raise DataError(f"the largest coordinate of a box is {largest:g}; {expected}; --frame names another side")


def records(
    captions: Mapping[str, list[object]],
    boxes: Mapping[str, object],
    images: Path,
    rejects: Rejects,
    *,
    frame: float = FRAME,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[Path, Record]]:
    """Yield path and record of every image that can be used, in the order of the captions; the others are counted.

    Args:
        captions: by image.
        boxes: by image, in the frame.
        images: folder that the paths of images start from.
        rejects: gets the reasons.
        frame: side of the square frame, in pixels.
        progress: called with the number of images done since the last call.
    """
    for image in dict.fromkeys([*captions, *boxes]):
        own = Rejects(seen=1)
        try:
            size_hw, turned = _size_hw(images / image)
            regions = _regions(boxes.get(image, []), size_hw, frame, own)
            if turned and regions:
                # The released step ignores EXIF, so its boxes lie in an image that nobody sees.
                own.parts["box in an image that EXIF turns"] += len(regions)
                regions = []
            record = make_record({"captions": captions.get(image, []), "regions": regions}, size_hw, own)
        except BadSample as fault:
            rejects.add(Rejects(seen=1, samples=Counter([fault.reason])))  # without the parts of a bad sample
        else:
            rejects.add(own)
            yield images / image, record
        progress(1)


def convert(folder: Path, manifest: Path, *, images: Path | None = None, frame: float = FRAME) -> Rejects:
    """Write the manifest; see the usage of this module.

    Args:
        folder: of the annotation files.
        manifest: file to write; an existing one is replaced. Images below its folder have relative paths.
        images: folder that the images' paths start from; None: `folder`.
        frame: side of the square frame of the boxes, in pixels.

    Returns:
        What was left out.

    Raises:
        DataError: files are missing or of another shape, boxes are in another order or unit, or no image can be used.
        memory.errors.WriteFailed: the manifest cannot be written.
    """
    captions, boxes = read_annotations(folder)
    check_boxes(boxes, frame)
    rejects = Rejects()
    place = manifest.parent.resolve()
    total = len(captions.keys() | boxes.keys())
    with progress_bar(total, "images", "convert") as advance:
        found = records(captions, boxes, (images or folder).resolve(), rejects, frame=frame, progress=advance)
        first = next(found, None)
        if first is None:
            raise DataError(f"no image can be used: {rejects.report()}")
        write_manifest(manifest, ((_relative(path, place), record) for path, record in chain([first], found)))
    return rejects


def main() -> None:
    """Convert the files of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--images", type=Path, help="default: FOLDER")
    parser.add_argument("--frame", type=float, default=FRAME, help="side of the frame of the boxes; default: 960")
    arguments = parser.parse_args()
    try:
        rejects = convert(arguments.folder, arguments.manifest, images=arguments.images, frame=arguments.frame)
    except user_errors() as error:
        parser.error(str(error))
    note(rejects.report())
    note(f"{counted(rejects.seen - rejects.bad, 'image')} in {arguments.manifest}")


def _object(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{file} is not a JSON object with images as keys")
    return document


def _numbers(boxes: Mapping[str, object]) -> Iterator[tuple[float, ...]]:
    """Yield the boxes that are four finite numbers."""
    for entries in boxes.values():
        for entry in entries if isinstance(entries, list) else []:
            box = _four(entry.get("bbox") if isinstance(entry, Mapping) else None)
            if box is not None:
                yield box


def _four(value: object) -> tuple[float, ...] | None:
    try:
        box = tuple(map(float, value)) if isinstance(value, list) else ()
    except (TypeError, ValueError, OverflowError):
        return None
    return box if len(box) == 4 and all(map(np.isfinite, box)) else None


def _regions(entries: object, size_hw: tuple[int, int], frame: float, rejects: Rejects) -> list[dict[str, object]]:
    """Bring the boxes of an image to its pixels, cut off at its sides; the rest is for `make_record` to check."""
    height, width = size_hw
    if not isinstance(entries, list):
        rejects.parts["boxes that are not a list"] += 1
        return []
    regions: list[dict[str, object]] = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            rejects.parts["region that is not an object"] += 1
            continue
        text = entry.get("description")
        if isinstance(text, str):
            text = text.lstrip(BULLETS)
        if text == PADDING:
            rejects.parts["padding for a description"] += 1
            continue
        box = _four(entry.get("bbox"))
        if box is not None:  # OWLv2's boxes reach beyond the frame
            x0, y0, x1, y1 = (min(max(edge, 0.0), frame) / frame for edge in box)
            box = (x0 * width, y0 * height, x1 * width, y1 * height)
        regions.append({"box_xyxy": box, "description": text, "score": entry.get("score", 1.0)})
    return regions


def _size_hw(path: Path) -> tuple[tuple[int, int], bool]:
    """Read height and width from the header of an image, and whether EXIF turns or mirrors it."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
            return (image.height, image.width), turned
    except FileNotFoundError:
        raise BadSample("missing image") from None
    except Exception:  # noqa: BLE001  Pillow raises anything over a damaged header
        raise BadSample("unreadable image") from None


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)


if __name__ == "__main__":
    main()
