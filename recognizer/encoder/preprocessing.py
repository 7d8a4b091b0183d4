"""Turn a picture into the pixels of a model, with the frame that maps boxes back to the picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recognizer.encoder.errors import EncoderError
from recognizer.encoder.features import Frame

Geometry = Literal["squash", "crop", "letterbox"]
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Largest resized image, in areas of the model input: a long thin image resized before its crop would fill the memory.
_LARGEST_RESIZE = 32


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The image preprocessing of one model.

    The pixels are those of open_clip's image transform with `resize_mode` squash, shortest (crop) or longest
    (letterbox).

    Attributes:
        size_hw: Height and width of the model input.
        geometry: `squash` resizes both axes on their own, `crop` fills the input and cuts the longer axis
            around the centre, `letterbox` fits the image in and pads.
        mean: Per-channel mean on the scale 0 to 1.
        std: Per-channel standard deviation on the scale 0 to 1.
        interpolation: `bicubic` or `bilinear`, both anti-aliased.
        fill: Grey level of the padding, 0 to 255.
    """

    size_hw: tuple[int, int]
    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    fill: int = 0

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            EncoderError: If the geometry or the interpolation is unknown.
        """
        if self.geometry not in get_args(Geometry):
            raise EncoderError(f"geometry {self.geometry!r} is unknown; use one of {get_args(Geometry)}")
        if self.interpolation not in _RESAMPLING:
            raise EncoderError(f"interpolation {self.interpolation!r} is unknown; use one of {tuple(_RESAMPLING)}")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)

    def pixels(self, image: Image.Image, displayed_size_hw: tuple[int, int] | None = None) -> tuple[Tensor, Frame]:
        """Resize one image into the model input.

        Args:
            image: The picture, upright; another mode than RGB is converted.
            displayed_size_hw: Size of the image as displayed, where `image` was decoded at a reduced scale;
                None when `image` has its full size.

        Returns:
            (3, H, W) uint8 pixels on the scale 0 to 255 and the frame of this image.
        """
        image = image if image.mode == "RGB" else image.convert("RGB")
        resized_hw, (top, left) = self._layout((image.height, image.width))
        array = np.asarray(self._resize(image, resized_hw, top, left))
        displayed_height, displayed_width = displayed_size_hw or (image.height, image.width)
        frame = Frame(
            displayed_size_hw=(displayed_height, displayed_width),
            offset_xy=(float(left), float(top)),
            scale_xy=(displayed_width / resized_hw[1], displayed_height / resized_hw[0]),
        )
        return torch.from_numpy(array.copy()).permute(2, 0, 1), frame

    def normalize(self, pixels: Tensor) -> Tensor:
        """Convert (B, 3, H, W) uint8 pixels to float32 on the model's scale, on the same device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return pixels.float().div_(255).sub_(mean).div_(std)

    def _layout(self, image_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
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

    def _resize(self, image: Image.Image, resized_hw: tuple[int, int], top: int, left: int) -> Image.Image:
        height, width = self.size_hw
        resampling = _RESAMPLING[self.interpolation]
        if resized_hw[0] * resized_hw[1] > _LARGEST_RESIZE * height * width:
            return self._resize_part(image, resized_hw, top, left)
        resized = image.resize((resized_hw[1], resized_hw[0]), resampling)
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
