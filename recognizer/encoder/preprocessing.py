"""Turn a picture into the pixels of a model, with the frame that maps boxes back to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor

from recognizer.encoder.errors import EncoderError
from recognizer.encoder.features import Frame
from recognizer.images import Fit, FittedImage, Geometry, Interpolation


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The image preprocessing of one model.

    Attributes:
        size_hw: Height and width of the model input.
        geometry: As for `Fit`, like the two at the end.
        mean: Per-channel mean on the scale 0 to 1.
        std: Per-channel standard deviation on the scale 0 to 1.
        interpolation: `bicubic` or `bilinear`.
        fill: Grey level of the padding, 0 to 255.
    """

    size_hw: tuple[int, int]
    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    fill: int = 0

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            EncoderError: If the geometry or the interpolation is unknown.
        """
        if self.geometry not in get_args(Geometry):
            raise EncoderError(f"geometry {self.geometry!r} is unknown; use one of {get_args(Geometry)}")
        if self.interpolation not in get_args(Interpolation):
            raise EncoderError(f"interpolation {self.interpolation!r} is unknown; use one of {get_args(Interpolation)}")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)

    @property
    def fit(self) -> Fit:
        """The part that resizes."""
        return Fit(self.size_hw, self.geometry, self.interpolation, self.fill)

    def pixels(self, image: Image.Image, displayed_size_hw: tuple[int, int] | None = None) -> tuple[Tensor, Frame]:
        """Resize one image into the model input.

        Args:
            image: The picture, upright; another mode than RGB is converted.
            displayed_size_hw: Size of the image as displayed, where `image` was decoded at a reduced scale;
                None when `image` has its full size.

        Returns:
            (3, H, W) uint8 pixels on the scale 0 to 255 and the frame of this image.
        """
        size_hw = image.height, image.width
        pixels = self.fit.pixels(image).copy()  # Pillow's array cannot be written to, which torch warns about
        return self.from_fitted(FittedImage(pixels, size_hw, displayed_size_hw or size_hw))

    def from_fitted(self, fitted: FittedImage) -> tuple[Tensor, Frame]:
        """Return what `pixels` does, for an image that was resized by `fit`; the tensor shares its memory."""
        resized_hw, (top, left) = self.fit.layout(fitted.decoded_size_hw)
        displayed_height, displayed_width = fitted.displayed_size_hw
        frame = Frame(
            displayed_size_hw=fitted.displayed_size_hw,
            offset_xy=(float(left), float(top)),
            scale_xy=(displayed_width / resized_hw[1], displayed_height / resized_hw[0]),
        )
        return torch.from_numpy(fitted.pixels).permute(2, 0, 1), frame

    def normalize(self, pixels: Tensor) -> Tensor:
        """Convert (B, 3, H, W) uint8 pixels to float32 on the model's scale, on the same device.

        The result lies in channels-last order whatever the order of the pixels, which depends on how they were joined:
        kernels round differently for different orders. Decoded pictures have this order already.
        """
        scaled = torch.empty_like(pixels, dtype=torch.float32, memory_format=torch.channels_last).copy_(pixels)
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return scaled.div_(255).sub_(mean).div_(std)


def stacked(pixels: Sequence[Tensor]) -> Tensor:
    """Join (3, H, W) pixels of `Preprocessing.pixels` to (B, 3, H, W), channels last, as decoded pictures lie.

    In this order each is copied as it lies, and so it is when `normalize` widens the batch: half the time of planes.
    """
    return torch.stack([one.permute(1, 2, 0) for one in pixels]).permute(0, 3, 1, 2)
