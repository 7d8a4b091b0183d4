"""Cut boxes out of an image: for an encoder, with a margin and a blur, and for an MLLM, with the box outlined."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

from recognizer.boxes.given import Box
from recognizer.images.draw import PALETTE_RGB

# Longer sides are reduced: model inputs have 224 to 512 pixels, and the square around a long thin box could fill the
# memory.
LARGEST_SIDE = 1024
# What an MLLM is shown around a box, in its longer sides: enough to see what the object is near to. Not tuned.
MLLM_MARGIN = 0.5
MLLM_BLUR = 0.05


@dataclass(frozen=True, slots=True)
class Cut:
    """A square cut out of an image.

    Attributes:
        image: the square.
        corner_xy: where its top left corner lies in the displayed image, in pixels; may be outside.
        scale: pixels of the displayed image per pixel of the square.
    """

    image: Image.Image
    corner_xy: tuple[float, float]
    scale: float


def cut_box(image: Image.Image, box: Box, *, margin: float, blur: float, fill: int = 0) -> Cut:
    """Cut a box out of an image, with some of its surroundings.

    The cut is a square, so that no encoder crops the ends of a long box off. It lies around the middle of the box,
    moved into the image where it fits.

    Args:
        image: the whole image, in full size.
        box: in its pixels, inside of it, with an area.
        margin: on each side, in longer sides of a tiny box. It falls linearly to 0 for a box as long as the image: the
            smaller an object, the more its surroundings help.
        blur: standard deviation of the blur outside of the box, in sides of the square; 0: none.
        fill: grey level of what lies beyond the image, 0 to 255.
    """
    longer = max(box[2] - box[0], box[3] - box[1])
    side = max(1, math.ceil(longer * (1 + 2 * margin * (1 - longer / max(image.size)))))
    left, top = (
        _start((low + high) / 2, side, length) for low, high, length in zip(box[:2], box[2:], image.size, strict=True)
    )
    # The part of the square that lies in the image.
    part = (max(left, 0), max(top, 0), min(left + side, image.width), min(top + side, image.height))
    scale = max(1.0, side / LARGEST_SIDE)
    size = tuple(max(1, round((high - low) / scale)) for low, high in zip(part[:2], part[2:], strict=True))
    shown = image.crop(part) if scale == 1 else image.resize((size[0], size[1]), Image.Resampling.BICUBIC, box=part)
    place = (round((part[0] - left) / scale), round((part[1] - top) / scale))
    square = Image.new("RGB", (round(side / scale),) * 2, (fill,) * 3)
    square.paste(shown, place)
    if blur:
        inner = (
            math.floor((box[0] - left) / scale),
            math.floor((box[1] - top) / scale),
            math.ceil((box[2] - left) / scale),
            math.ceil((box[3] - top) / scale),
        )
        sharp = square.crop(inner)
        square = square.filter(ImageFilter.GaussianBlur(blur * square.width))
        square.paste(sharp, inner[:2])
    return Cut(square, (left, top), scale)


def show_box(image: Image.Image, box: Box, *, how: str) -> Image.Image:
    """Return what an MLLM sees of a box: the object with what surrounds it.

    Args:
        image: the whole image, in full size.
        box: in its pixels.
        how: `outline` draws the box, `blur` blurs what is outside of it.
    """
    cut = cut_box(image, box, margin=MLLM_MARGIN, blur=MLLM_BLUR if how == "blur" else 0.0)
    if how == "outline":
        x, y = cut.corner_xy
        inside = [
            (box[0] - x) / cut.scale,
            (box[1] - y) / cut.scale,
            (box[2] - x) / cut.scale,
            (box[3] - y) / cut.scale,
        ]
        ImageDraw.Draw(cut.image).rectangle(inside, outline=PALETTE_RGB[0], width=max(2, cut.image.width // 100))
    return cut.image


def _start(centre: float, side: int, length: int) -> int:
    """Return where a square begins along one axis: around a centre, inside the image where it is not longer."""
    if side >= length:
        return (length - side) // 2
    return min(max(math.floor(centre - side / 2), 0), length - side)
