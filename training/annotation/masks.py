"""Boxes without a model: of a cut-out's opaque pixels, or of what differs from a plain background.

For cut-outs and product photographs, which show one subject: every description has its box. An image whose border is
not plain has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage  # type: ignore[import-untyped]

from recognizer.images import DecodedImage, ImageItem
from training.annotation.detector import Found

OPAQUE = 128
"""Smallest alpha of a pixel that belongs to the subject; soft shadows have less."""
_SIZE = 512  # pixels of the longer side at which the background is looked for; a box is then right to 1/512
_DIFFERENCE = 24  # of 255, in one channel: JPEG's noise on a plain background stays below, a pale object above
_PLAIN_SHARE = 0.9  # of the border's pixels that have its colour; the subject may touch the border somewhere
_SPECK_SHARE = 0.01  # a patch of no more than this share of the largest one is dust, not a part of the subject


@dataclass(frozen=True, slots=True)
class MaskDetector:
    """Gives every description of an image the box of what stands out from its background."""

    name: str = "mask"
    identity: str = "mask 1"
    input_size_hw: tuple[int, int] | None = (_SIZE, _SIZE)

    def shortened(self, descriptions: Sequence[str]) -> list[str]:
        """Return the texts as they are; none is read."""
        return list(descriptions)

    def prepare(self, item: ImageItem, decoded: DecodedImage) -> Found:
        """Return the box of the subject in displayed pixels, or no box."""
        mask = _alpha(item, decoded)
        if mask is None:
            mask = stands_out(decoded.image)
        box = subject_box(mask)
        if box is None:
            return Found(np.empty((0, 4), np.float32), np.empty(0, np.float32))
        height, width = decoded.displayed_size_hw
        scale = np.array([width, height, width, height]) / np.array([*mask.shape[::-1]] * 2)
        return Found((np.array([box]) * scale).astype(np.float32), np.ones(1, np.float32))

    def detect(
        self, prepared: Sequence[Found], descriptions: Sequence[Sequence[str]], threshold: float
    ) -> list[list[Found]]:
        """See `Detector`; a box has the score 1."""
        return [[found] * len(texts) for found, texts in zip(prepared, descriptions, strict=True)]


def stands_out(image: Image.Image) -> NDArray[np.bool_]:
    """Return (H, W): the pixels that differ from a plain background; none where the border is not plain.

    Args:
        image: RGB; it is looked at in a size of at most `_SIZE` pixels, which H and W are.
    """
    small = image.copy()
    small.thumbnail((_SIZE, _SIZE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.int16)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, 0)
    is_plain = (np.abs(border - colour).max(1) < _DIFFERENCE).mean() >= _PLAIN_SHARE
    differs: NDArray[np.bool_] = (np.abs(pixels - colour).max(2) >= _DIFFERENCE) & bool(is_plain)
    return differs


def subject_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return x0, y0, x1, y1 of the smallest box around all patches of a mask but specks; None for an empty mask."""
    patches, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return None
    sizes = np.bincount(patches.ravel())[1:]
    boxes = ndimage.find_objects(patches)
    kept = [box for box, size in zip(boxes, sizes, strict=True) if size > _SPECK_SHARE * sizes.max()]
    return (
        min(x.start for _, x in kept),
        min(y.start for y, _ in kept),
        max(x.stop for _, x in kept),
        max(y.stop for y, _ in kept),
    )


def _alpha(item: ImageItem, decoded: DecodedImage) -> NDArray[np.bool_] | None:
    """Return (H, W) of the displayed image: its opaque pixels; None where no pixel is transparent.

    The file is opened here, after a worker process has decoded it without harm; what it decodes has no alpha.
    """
    if decoded.format == "JPEG":
        return None
    try:
        with Image.open(item.path, formats=[decoded.format]) as image:
            if not image.has_transparency_data:
                return None
            image.load()
            alpha = np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A"))
    except (OSError, ValueError, SyntaxError):
        return None
    return None if alpha.min() == 255 else alpha >= OPAQUE
