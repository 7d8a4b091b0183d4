"""Random crops and mirror images in which boxes and words move with the pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from recognizer.encoder.preprocessing import Preprocessing
from training.data.record import BoxXYXY, Record, Region
from training.data.side_words import names_place, swap_sides

_CROP_TRIES = 10  # as torchvision's RandomResizedCrop; after that the whole picture is used
_SMALL_WORDS = frozenset(
    {"a", "an", "the", "of", "on", "in", "at", "to", "by", "with", "and", "or", "is", "are", "its", "his", "her"}
    | {"their", "this", "that", "from", "for", "near", "photo", "picture"}
)
_OF_ENCODER = ("size_hw", "fit", "fill")


Share = Annotated[float, Field(gt=0, le=1)]


class AugmentSettings(BaseModel):
    """Random crops and mirror images. Size and geometry of the model input are those of the encoder's preprocessing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_scale: tuple[Share, Share] = Field(
        default=(1.0, 1.0), description="Smallest and largest area of the crop, as a share of the picture; 1, 1: none."
    )
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.75, 4 / 3), description="Smallest and largest width of a crop divided by its height."
    )
    flip: float = Field(default=0.0, ge=0, le=1, description="Probability of the mirror image.")
    visible_share: float = Field(
        default=0.6, gt=0, le=1, description="Smallest share of a box's area that must stay visible for it to be used."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_settings_of_the_encoder(cls, values: object) -> object:
        stale = [name for name in _OF_ENCODER if isinstance(values, Mapping) and name in values]
        if stale:
            raise ValueError(f"the encoder decides how pictures fit its input; leave out {' and '.join(stale)}")
        return values


@dataclass(frozen=True, slots=True)
class Augmented:
    """A model input with its texts and boxes.

    Attributes:
        pixels: (3, H, W) uint8, RGB.
        caption: one text.
        boxes_cxcywh: (M, 4) float32 centre and size, as shares of the input's width and height (padding included).
        descriptions: the texts of each box, at least one.
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
    preprocessing: Preprocessing,
    rng: np.random.Generator,
) -> Augmented:
    """Crop a picture, fit it into the model input and perhaps mirror it, with its boxes and texts.

    A random crop is used only if every object that the caption mentions stays visible, and never with a caption that
    names a place in the picture; other objects outside the crop are dropped with their descriptions. The picture is
    mirrored only if the words left and right can be swapped safely in all its texts.

    Args:
        image: mode RGB; may have been decoded at a reduced scale.
        displayed_size_hw: size in pixels of the displayed picture, in whose frame the boxes are.
        record: only its regions are used, not its captions.
        caption: the caption to use.
        settings: sizes and probabilities.
        preprocessing: of the encoder; the whole picture gives the pixels of inference.
        rng: makes every choice.
    """
    crop_xyxy = _choose_crop(displayed_size_hw, record.regions, caption, settings, preprocessing, rng)
    whole = crop_xyxy == _whole(displayed_size_hw)
    regions = _visible(record.regions, _shown(crop_xyxy, preprocessing), settings.visible_share)
    texts = [region.descriptions if whole else _without_place(region.descriptions) for region in regions]
    described = [(region.box_xyxy, own) for region, own in zip(regions, texts, strict=True) if own]
    boxes_xyxy = np.array([box for box, _ in described], dtype=np.float64).reshape(-1, 4)
    pixels, boxes_cxcywh = _to_input(image, displayed_size_hw, crop_xyxy, boxes_xyxy, preprocessing)
    augmented = Augmented(pixels, caption, boxes_cxcywh, tuple(own for _, own in described))
    mirror = mirrored(augmented) if rng.random() < settings.flip else None
    return mirror or augmented


def mirrored(augmented: Augmented) -> Augmented | None:
    """Return the mirror image with left and right swapped in its texts, or None where they cannot be swapped."""
    caption = swap_sides(augmented.caption)
    swapped = [[swap_sides(text) for text in texts] for texts in augmented.descriptions]
    if caption is None or any(text is None for texts in swapped for text in texts):
        return None
    boxes_cxcywh = augmented.boxes_cxcywh.copy()
    boxes_cxcywh[:, 0] = 1 - boxes_cxcywh[:, 0]
    descriptions = tuple(tuple(text for text in texts if text is not None) for texts in swapped)
    return Augmented(np.ascontiguousarray(augmented.pixels[:, :, ::-1]), caption, boxes_cxcywh, descriptions)


def mentions(caption: str, descriptions: Sequence[str]) -> bool:
    """Return whether a caption may mention an object: it shares a content word with one of its descriptions."""
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
    preprocessing: Preprocessing,
    rng: np.random.Generator,
) -> BoxXYXY:
    """Return a crop (pixels of the displayed picture) that keeps the objects of the caption, or the whole picture."""
    if settings.crop_scale == (1.0, 1.0) or names_place(caption):
        return _whole(size_hw)
    needed = [region for region in regions if mentions(caption, region.descriptions)]
    for _ in range(_CROP_TRIES):
        crop_xyxy = _random_crop(size_hw, settings, rng)
        if len(_visible(needed, _shown(crop_xyxy, preprocessing), settings.visible_share)) == len(needed):
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
    """Return the regions with at least this share of their box inside the crop."""
    return [region for region in regions if _share_inside(region.box_xyxy, crop_xyxy) >= share]


def _share_inside(box_xyxy: BoxXYXY, crop_xyxy: BoxXYXY) -> float:
    x0, y0, x1, y1 = box_xyxy
    width = min(x1, crop_xyxy[2]) - max(x0, crop_xyxy[0])
    height = min(y1, crop_xyxy[3]) - max(y0, crop_xyxy[1])
    return max(0.0, width) * max(0.0, height) / ((x1 - x0) * (y1 - y0))


def _shown(crop_xyxy: BoxXYXY, preprocessing: Preprocessing) -> BoxXYXY:
    """Return the part of a crop that the model input shows: all of it, or its centre where the encoder crops."""
    if preprocessing.geometry != "crop":
        return crop_xyxy
    x0, y0, x1, y1 = crop_xyxy
    height, width = preprocessing.size_hw
    scale = min((x1 - x0) / width, (y1 - y0) / height)
    x, y = (x0 + x1 - scale * width) / 2, (y0 + y1 - scale * height) / 2
    return x, y, x + scale * width, y + scale * height


def _to_input(
    image: Image.Image,
    displayed_size_hw: tuple[int, int],
    crop_xyxy: BoxXYXY,
    boxes_xyxy: NDArray[np.float64],
    preprocessing: Preprocessing,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Fit a crop into the model input.

    Args:
        image: may have been decoded at a reduced scale.
        displayed_size_hw: size in pixels of the displayed picture.
        crop_xyxy: in pixels of the displayed picture; rounded to pixels of `image`.
        boxes_xyxy: (M, 4) in pixels of the displayed picture.
        preprocessing: of the encoder.

    Returns:
        (3, H, W) pixels, and (M, 4) boxes as cxcywh shares of the input, clipped to what it shows.
    """
    scale = np.array([image.width / displayed_size_hw[1], image.height / displayed_size_hw[0]] * 2)
    left, top, right, bottom = (round(float(edge)) for edge in np.array(crop_xyxy) * scale)
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    pixels, frame = preprocessing.pixels(image.crop((left, top, right, bottom)))
    x0, y0, x1, y1 = frame.to_input(np.array([0.0, 0.0, right - left, bottom - top])).tolist()
    height, width = preprocessing.size_hw
    low, high = (max(x0, 0.0), max(y0, 0.0)) * 2, (min(x1, float(width)), min(y1, float(height))) * 2
    boxes = np.clip(frame.to_input(boxes_xyxy * scale - [left, top, left, top]), low, high)
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    shares = np.concatenate([centre, extent], axis=1) / [width, height, width, height]
    return np.ascontiguousarray(pixels.numpy()), shares.astype(np.float32)
