"""A box as its file gives it, and the same box in pixels of the displayed image."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recognizer.images import ImageError

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the displayed image."""

_ID_DIGITS = 12  # 48 bits: of a thousand boxes of one image, two are the same by chance once in 10^8 images
# Sizes are whole pixels, so a copy of half the size may be off by one on each side.
_ROUNDING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBox:
    """One box of a file.

    Attributes:
        image: what the file calls the image: a path, or the name without suffix or the number, as `BoxFile.by` says.
        xyxy: left, top, right, bottom as the file gives them, whatever numbers these are.
        shares: whether they are shares of the image's width and height; else they are pixels.
        frame_hw: height and width of the image according to the file; None: it does not say.
        category: its name according to the file; None: it does not say.
        confidence: of the detector, in [0, 1]; None for annotations.
        area: of the object in pixels of the file's frame, for COCO's sizes; None: that of the box.
        is_crowd: whether it stands around a group of objects.
        image_id: number or name of the image in COCO's sense.
        category_id: likewise of the category.
        annotation_id: likewise of the annotation.
        place: where the box stands in the document: numbers of image and detection.
    """

    image: str
    xyxy: tuple[float, float, float, float]
    shares: bool = False
    frame_hw: tuple[int, int] | None = None
    category: str | None = None
    confidence: float | None = None
    area: float | None = None
    is_crowd: bool = False
    image_id: int | str | None = None
    category_id: int | str | None = None
    annotation_id: int | str | None = None
    place: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """A name within its image that stays the same as long as all that the file says of the box does."""
        said = {
            "image": self.image,
            "xyxy": [repr(edge) for edge in self.xyxy],  # JSON has no word for what is no number
            "shares": self.shares,
            "frame": self.frame_hw,
            "category": self.category,
            "confidence": self.confidence,
            "crowd": self.is_crowd,
            "ids": [self.image_id, self.category_id, self.annotation_id],
        }
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:_ID_DIGITS]

    def displayed(self, size_hw: tuple[int, int]) -> Box:
        """Return the box in pixels of the displayed image, clipped to it.

        Args:
            size_hw: height and width of the displayed image.

        Raises:
            ImageError: E_BOX: it is no box, has no area or lies outside of the image. E_FRAME: the file gives the image
                a size of another shape, so its boxes mean another frame, as that of the stored image before it is
                turned as its EXIF says.
        """
        height, width = size_hw
        if not all(map(math.isfinite, self.xyxy)):
            raise ImageError("E_BOX", f"the box has an edge that is no finite number: {list(self.xyxy)}")
        scale_x, scale_y = (float(width), float(height)) if self.shares else self._scale(size_hw)
        x0, y0, x1, y1 = (
            edge * scale for edge, scale in zip(self.xyxy, (scale_x, scale_y, scale_x, scale_y), strict=True)
        )
        if x1 <= x0 or y1 <= y0:
            raise ImageError("E_BOX", f"the box has no area: width {x1 - x0:g}, height {y1 - y0:g}")
        clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            corners = ", ".join(f"{edge:g}" for edge in (x0, y0, x1, y1))
            raise ImageError("E_BOX", f"the box ({corners}) lies outside of the image of {width}×{height} pixels")
        return clipped

    def _scale(self, size_hw: tuple[int, int]) -> tuple[float, float]:
        """Return pixels of the displayed image per pixel of the file's frame, along x and y."""
        if self.frame_hw is None or self.frame_hw == size_hw:
            return 1.0, 1.0
        (height, width), (frame_h, frame_w) = size_hw, self.frame_hw
        off = abs(frame_w * height - frame_h * width)
        if min(self.frame_hw) < 1 or off > _ROUNDING * max(*size_hw, *self.frame_hw):
            turned = "; it may be that of the image before it is turned as its EXIF says"
            raise ImageError(
                "E_FRAME",
                f"the box belongs to an image of {frame_w}×{frame_h} pixels, and this one is displayed with "
                f"{width}×{height}{turned if (frame_w > frame_h) != (width > height) else ''}",
            )
        return width / frame_w, height / frame_h


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFile:
    """What a file of boxes holds.

    Attributes:
        path: the file or folder.
        format: its name, for people.
        boxes: in the order of the file.
        by: how the boxes name their images: by `path`, relative to the folder of the images or of the file, or
            absolute; by `stem`, the path or name without suffix, or a number that the name is; or by `key`, where the
            boxes were found in the images of this run.
        left_out: how many entries were left out because they are no boxes, by reason.
        categories: name of each category, by its id in the file.
        document: the parsed file, for formats that can be written again with results.
    """

    path: Path
    format: str
    boxes: Sequence[GivenBox]
    by: Literal["path", "stem", "key"] = "path"
    left_out: Counter[str] = field(default_factory=Counter)
    categories: Mapping[int | str, str] = field(default_factory=dict)
    document: Any = None


def to_number(value: object) -> float:
    """Return a number of a file as a float; NaN for what is no number."""
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def from_corner(values: object) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of a list of left, top, width, height; NaN for what is none."""
    if not isinstance(values, list) or len(values) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(to_number, values)
    return x, y, x + width, y + height


def to_confidence(value: object) -> float | None:
    """Return a confidence in [0, 1]; None for what is none."""
    number = to_number(value)
    return number if 0 <= number <= 1 else None


def to_area(value: object) -> float | None:
    """Return a positive area; None for what is none."""
    number = to_number(value)
    return number if 0 < number < math.inf else None


def to_id(value: object) -> int | str | None:
    """Return a value as an id; None for what is none."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def to_text(value: object) -> str | None:
    """Return a name of a category; None for what is none."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
