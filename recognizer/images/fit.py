"""Resize an image into the input of a model. Free of torch, so that it also runs where images are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Geometry = Literal["squash", "crop", "letterbox"]
Interpolation = Literal["bicubic", "bilinear"]
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Largest resized image, in areas of the model input: a long thin image resized before its crop would fill the memory.
_LARGEST_RESIZE = 32


@dataclass(frozen=True, slots=True)
class FittedImage:
    """An image in the size of a model input.

    Attributes:
        pixels: (H, W, 3) uint8, red, green and blue.
        decoded_size_hw: height and width in pixels that the image had before it was resized.
        displayed_size_hw: height and width in pixels of the full image as a viewer shows it.
    """

    pixels: NDArray[np.uint8]
    decoded_size_hw: tuple[int, int]
    displayed_size_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image gets into the input of a model.

    The pixels are those of open_clip's image transform with `resize_mode` squash, shortest (crop) or longest
    (letterbox).

    Attributes:
        size_hw: height and width of the model input in pixels.
        geometry: `squash` resizes both axes on their own, `crop` fills the input and cuts the longer axis around the
            centre, `letterbox` fits the image in and pads.
        interpolation: both are anti-aliased.
        fill: grey level of the padding, 0 to 255.
    """

    size_hw: tuple[int, int]
    geometry: Geometry
    interpolation: Interpolation
    fill: int

    def to_json(self) -> dict[str, Any]:
        """Its attributes as plain JSON values."""
        # `asdict` copies deeply, which takes as long as all the rest that a request for an image takes.
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Fit:
        """Make one of its attributes as JSON gives them back."""
        return cls(**values | {"size_hw": tuple(values["size_hw"])})

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize an upright image; another mode than RGB is converted.

        Returns:
            (H, W, 3) uint8, read-only.
        """
        image = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(self._resize(image))

    def layout(self, image_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size of the resized image, and where its top-left corner lies in the input (top, left)."""
        height, width = self.size_hw
        if self.geometry == "squash":
            return self.size_hw, (0, 0)
        ratios = (image_hw[0] / height, image_hw[1] / width)
        if self.geometry == "letterbox":
            resized = _rounded(image_hw, max(ratios))
            return resized, ((height - resized[0]) // 2, (width - resized[1]) // 2)
        if height == width:
            short = min(image_hw)
            resized = (int(height * image_hw[0] / short), int(width * image_hw[1] / short))
        else:
            resized = _rounded(image_hw, min(ratios))
        return resized, (-round((resized[0] - height) / 2.0), -round((resized[1] - width) / 2.0))

    def _resize(self, image: Image.Image) -> Image.Image:
        resized_hw, (top, left) = self.layout((image.height, image.width))
        height, width = self.size_hw
        if resized_hw[0] * resized_hw[1] > _LARGEST_RESIZE * height * width:
            return self._resize_part(image, resized_hw, top, left)
        resized = image.resize((resized_hw[1], resized_hw[0]), _RESAMPLING[self.interpolation])
        if self.geometry == "letterbox":
            canvas = Image.new("RGB", (width, height), (self.fill,) * 3)
            canvas.paste(resized, (left, top))
            return canvas
        return resized.crop((-left, -top, width - left, height - top))

    def _resize_part(self, image: Image.Image, resized_hw: tuple[int, int], top: int, left: int) -> Image.Image:
        """Resample only the part of a long thin image that the crop keeps."""
        height, width = self.size_hw
        scale_x, scale_y = image.width / resized_hw[1], image.height / resized_hw[0]
        x1, y1 = min((width - left) * scale_x, image.width), min((height - top) * scale_y, image.height)
        box = (-left * scale_x, -top * scale_y, x1, y1)
        return image.resize((width, height), _RESAMPLING[self.interpolation], box=box)


def _rounded(image_hw: tuple[int, int], ratio: float) -> tuple[int, int]:
    return max(1, round(image_hw[0] / ratio)), max(1, round(image_hw[1] / ratio))
