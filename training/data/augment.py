"""Random crops and mirror images in which boxes and words move with the pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from training.data.record import BoxXYXY, Record, Region
from training.data.side_words import names_place, swap_sides

_CROP_TRIES = 10
_SMALL_WORDS = frozenset(
    {"a", "an", "the", "of", "on", "in", "at", "to", "by", "with", "and", "or", "is", "are", "its", "his", "her"}
    | {"their", "this", "that", "from", "for", "near", "photo", "picture"}
)


Share = Annotated[float, Field(gt=0, le=1)]


class AugmentSettings(BaseModel):
    """How a picture is laid into the model's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_hw: tuple[int, int] = Field(default=(224, 224), description="Height and width of the input, in pixels.")
    fit: Literal["letterbox", "squash"] = Field(
        default="letterbox", description="letterbox keeps the aspect ratio and pads; squash fills the input."
    )
    fill: int = Field(default=0, ge=0, le=255, description="Grey level of the padding.")
    crop_scale: tuple[Share, Share] = Field(
        default=(1.0, 1.0), description="Smallest and largest area of the crop, as a share of the picture; 1, 1: none."
    )
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.75, 4 / 3), description="Smallest and largest width of a crop divided by its height."
    )
    flip: float = Field(default=0.0, ge=0, le=1, description="Probability of the mirror image.")
    visible_share: float = Field(
        default=0.6, gt=0, le=1, description="Smallest share of a box's area that must be left for it to be used."
    )


@dataclass(frozen=True, slots=True)
class Augmented:
    """A model input and what is said of it.

    Attributes:
        pixels: (3, H, W) uint8, RGB.
        caption: one text.
        boxes_cxcywh: (M, 4) float32 centre and size, as shares of the input's width and height (padding included).
        descriptions: of each box, at least one text.
    """

    pixels: NDArray[np.uint8]
    caption: str
    boxes_cxcywh: NDArray[np.float32]
    descriptions: tuple[tuple[str, ...], ...]


def augment(
    image: Image.Image,
    displayed_size_hw: tuple[int, int],
    record: Record,
    caption: str,
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Augmented:
    """Crop, fit and perhaps mirror a picture with its boxes and texts.

    A crop is used only if every object that the caption mentions stays visible, and not with a caption that names a
    place in the picture; other objects that it loses are left out with their descriptions. The picture is mirrored only
    if the words left and right of all its texts can be swapped safely.

    Args:
        image: mode RGB; may have been decoded at a reduced scale.
        displayed_size_hw: size in pixels of the picture in whose frame the boxes are.
        record: its regions; the captions are not looked at.
        caption: the caption to use.
        settings: sizes and probabilities.
        rng: makes every choice.
    """
    crop_xyxy = _choose_crop(displayed_size_hw, record.regions, caption, settings, rng)
    whole = crop_xyxy == _whole(displayed_size_hw)
    regions = _visible(record.regions, crop_xyxy, settings.visible_share)
    texts = [region.descriptions if whole else _without_place(region.descriptions) for region in regions]
    kept = [(region.box_xyxy, said) for region, said in zip(regions, texts, strict=True) if said]
    fitted_hw, offset_hw = _layout(crop_xyxy, settings)
    pixels = _pixels(image, displayed_size_hw, crop_xyxy, fitted_hw, offset_hw, settings)
    boxes_xyxy = np.array([box for box, _ in kept], dtype=np.float64).reshape(-1, 4)
    boxes_cxcywh = _to_input(boxes_xyxy, crop_xyxy, fitted_hw, offset_hw, settings.size_hw)
    augmented = Augmented(pixels, caption, boxes_cxcywh, tuple(said for _, said in kept))
    mirror = mirrored(augmented) if rng.random() < settings.flip else None
    return mirror or augmented


def mirrored(augmented: Augmented) -> Augmented | None:
    """Return the mirror image with left and right swapped in its texts, or None where they cannot be swapped."""
    caption = swap_sides(augmented.caption)
    swapped = [[swap_sides(text) for text in said] for said in augmented.descriptions]
    if caption is None or any(text is None for said in swapped for text in said):
        return None
    boxes_cxcywh = augmented.boxes_cxcywh.copy()
    boxes_cxcywh[:, 0] = 1 - boxes_cxcywh[:, 0]
    descriptions = tuple(tuple(text for text in said if text is not None) for said in swapped)
    return Augmented(np.ascontiguousarray(augmented.pixels[:, :, ::-1]), caption, boxes_cxcywh, descriptions)


def mentions(caption: str, descriptions: Sequence[str]) -> bool:
    """Say whether a caption may speak of an object: it shares a word of some weight with one of its descriptions."""
    words = _words(caption)
    return any(words & _words(description) for description in descriptions)


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"\w+", text.lower()) if word not in _SMALL_WORDS}


def _without_place(descriptions: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in descriptions if not names_place(text))


def _choose_crop(
    size_hw: tuple[int, int],
    regions: Sequence[Region],
    caption: str,
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> BoxXYXY:
    """Return a crop (pixels of the displayed picture) that keeps what the caption speaks of, or the whole picture."""
    if settings.crop_scale == (1.0, 1.0) or names_place(caption):
        return _whole(size_hw)
    needed = [region for region in regions if mentions(caption, region.descriptions)]
    for _ in range(_CROP_TRIES):
        crop_xyxy = _random_crop(size_hw, settings, rng)
        if len(_visible(needed, crop_xyxy, settings.visible_share)) == len(needed):
            return crop_xyxy
    return _whole(size_hw)


def _random_crop(size_hw: tuple[int, int], settings: AugmentSettings, rng: np.random.Generator) -> BoxXYXY:
    height, width = size_hw
    area = rng.uniform(*settings.crop_scale) * height * width
    low, high = settings.crop_ratio
    ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
    crop_width = min(max(math.sqrt(area * ratio), 1.0), float(width))
    crop_height = min(max(area / crop_width, 1.0), float(height))
    crop_width = min(max(area / crop_height, 1.0), float(width))
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height


def _whole(size_hw: tuple[int, int]) -> BoxXYXY:
    return 0.0, 0.0, float(size_hw[1]), float(size_hw[0])


def _visible(regions: Sequence[Region], crop_xyxy: BoxXYXY, share: float) -> list[Region]:
    """Return the regions of whose box the crop keeps at least this share."""
    return [region for region in regions if _kept_share(region.box_xyxy, crop_xyxy) >= share]


def _kept_share(box_xyxy: BoxXYXY, crop_xyxy: BoxXYXY) -> float:
    x0, y0, x1, y1 = box_xyxy
    width = min(x1, crop_xyxy[2]) - max(x0, crop_xyxy[0])
    height = min(y1, crop_xyxy[3]) - max(y0, crop_xyxy[1])
    return max(0.0, width) * max(0.0, height) / ((x1 - x0) * (y1 - y0))


def _layout(crop_xyxy: BoxXYXY, settings: AugmentSettings) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width the crop is resized to, and how far below and right of the input's corner it then lies.

    For a whole picture they are those of `recognizer.encoder.preprocessing`, so that training sees what inference sees.
    """
    height, width = settings.size_hw
    if settings.fit == "squash":
        return settings.size_hw, (0, 0)
    crop_width, crop_height = crop_xyxy[2] - crop_xyxy[0], crop_xyxy[3] - crop_xyxy[1]
    scale = max(crop_height / height, crop_width / width)
    fitted_hw = max(1, round(crop_height / scale)), max(1, round(crop_width / scale))
    return fitted_hw, ((height - fitted_hw[0]) // 2, (width - fitted_hw[1]) // 2)


def _pixels(
    image: Image.Image,
    displayed_size_hw: tuple[int, int],
    crop_xyxy: BoxXYXY,
    fitted_hw: tuple[int, int],
    offset_hw: tuple[int, int],
    settings: AugmentSettings,
) -> NDArray[np.uint8]:
    x, y = image.width / displayed_size_hw[1], image.height / displayed_size_hw[0]
    x0, y0, x1, y1 = crop_xyxy
    box = (x0 * x, y0 * y, min(x1 * x, image.width), min(y1 * y, image.height))
    fitted = image.resize((fitted_hw[1], fitted_hw[0]), Image.Resampling.BICUBIC, box=box)
    canvas = np.full((*settings.size_hw, 3), settings.fill, dtype=np.uint8)
    canvas[offset_hw[0] : offset_hw[0] + fitted_hw[0], offset_hw[1] : offset_hw[1] + fitted_hw[1]] = np.asarray(fitted)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1))


def _to_input(
    boxes_xyxy: NDArray[np.float64],
    crop_xyxy: BoxXYXY,
    fitted_hw: tuple[int, int],
    offset_hw: tuple[int, int],
    size_hw: tuple[int, int],
) -> NDArray[np.float32]:
    """Map (M, 4) boxes in pixels of the displayed picture to cxcywh shares of the input, clipped to the crop."""
    x0, y0, x1, y1 = crop_xyxy
    corner, far = np.array([x0, y0, x0, y0]), np.array([x1, y1, x1, y1])
    scale = np.array([fitted_hw[1] / (x1 - x0), fitted_hw[0] / (y1 - y0)] * 2)
    offset = np.array([offset_hw[1], offset_hw[0]] * 2)
    inside = (np.clip(boxes_xyxy, corner, far) - corner) * scale + offset
    shares = inside / np.array([size_hw[1], size_hw[0]] * 2)
    centre, extent = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    return np.concatenate([centre, extent], axis=1).astype(np.float32)
