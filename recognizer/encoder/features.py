"""The features that an encoder returns for images, and the frame between displayed pixels and the model input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Whole-image and region vectors of a batch, in the joint space of images and texts.

    B images, Q regions each, D dimensions; all arrays are float32.

    Attributes:
        image: (B, D) unit rows.
        regions: (B, Q, D) unit rows.
        boxes_xyxy: (B, Q, 4) left, top, right, bottom in pixels of the displayed image, clipped to it.
        region_weight: (B, Q) in [0, 1]: the share of the region that shows image rather than padding, times the
            weight that the encoder gives it.
        region_area: (B, Q) in [0, 1]: the area of the box as a share of the displayed image's.
    """

    image: NDArray[np.float32]
    regions: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    region_weight: NDArray[np.float32]
    region_area: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that the shapes of the arrays agree.

        Raises:
            ValueError: If a shape does not follow from the shape of `regions`.
        """
        batch, queries, dim = self.regions.shape
        expected = {
            "image": (batch, dim),
            "boxes_xyxy": (batch, queries, 4),
            "region_weight": (batch, queries),
            "region_area": (batch, queries),
        }
        for field, shape in expected.items():
            actual = getattr(self, field).shape
            if actual != shape:
                raise ValueError(f"{field} has shape {actual}, but regions of shape {self.regions.shape} need {shape}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image)

    def take(self, positions: int | NDArray[np.int64]) -> ImageFeatures:
        """Return some of the images, one by its number (a view) or several; the batch axis stays."""
        rows = slice(positions, positions + 1) if isinstance(positions, int) else positions
        return ImageFeatures(
            image=self.image[rows],
            regions=self.regions[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            region_weight=self.region_weight[rows],
            region_area=self.region_area[rows],
        )

    def rounded(self) -> ImageFeatures:
        """Round the vectors to what float16 holds, as they are stored; boxes and weights stay as they are."""
        return replace(self, image=_rounded(self.image), regions=_rounded(self.regions))

    @classmethod
    def concatenate(cls, parts: list[ImageFeatures]) -> ImageFeatures:
        """Join batches of one encoder along the image axis; `parts` must not be empty."""
        return cls(
            image=np.concatenate([part.image for part in parts]),
            regions=np.concatenate([part.regions for part in parts]),
            boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
            region_weight=np.concatenate([part.region_weight for part in parts]),
            region_area=np.concatenate([part.region_area for part in parts]),
        )


def area_share(boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the area of boxes (..., 4) in pixels as a share (...) of an image's, in float32."""
    x0, y0, x1, y1 = np.moveaxis(boxes_xyxy, -1, 0)
    return np.asarray((x1 - x0) * (y1 - y0) / np.float32(size_hw[0] * size_hw[1]), dtype=np.float32)


def _rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # torch converts many times as fast as NumPy.
    rounded: NDArray[np.float32] = torch.from_numpy(vectors).half().float().numpy()
    return rounded


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of one displayed image in the model input: displayed = (input - offset) * scale, per axis.

    Coordinates are continuous: an image of width w spans x from 0 to w.

    Attributes:
        displayed_size_hw: Height and width of the image as displayed, in pixels.
        offset_xy: Where the image's top-left corner lies in the model input, in input pixels. Negative when a
            crop cut it off, positive when padding precedes it.
        scale_xy: Displayed pixels per input pixel.
    """

    displayed_size_hw: tuple[int, int]
    offset_xy: tuple[float, float]
    scale_xy: tuple[float, float]

    def to_displayed(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes (..., 4) from model-input pixels to displayed pixels, clipped to the displayed image."""
        height, width = self.displayed_size_hw
        offset, scale = self._offset(), self._scale()
        return np.clip((boxes_xyxy - offset) * scale, 0.0, [width, height, width, height]).astype(np.float32)

    def to_input(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes (..., 4) from displayed pixels to model-input pixels; they may reach beyond the input."""
        return (boxes_xyxy / self._scale() + self._offset()).astype(np.float32)

    def visible_share(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Share of each box's area, in [0, 1], that shows image rather than padding.

        Args:
            boxes_xyxy: (..., 4) boxes of positive area in model-input pixels.
        """
        height, width = self.displayed_size_hw
        left, top, right, bottom = np.moveaxis(self.to_input(np.array([0.0, 0.0, width, height])), -1, 0)
        x0, y0, x1, y1 = np.moveaxis(boxes_xyxy, -1, 0)
        seen_x = np.clip(np.minimum(x1, right) - np.maximum(x0, left), 0.0, None) / (x1 - x0)
        seen_y = np.clip(np.minimum(y1, bottom) - np.maximum(y0, top), 0.0, None) / (y1 - y0)
        return np.asarray(np.clip(seen_x * seen_y, 0.0, 1.0), dtype=np.float32)

    def _offset(self) -> NDArray[np.float64]:
        return np.array([*self.offset_xy, *self.offset_xy])

    def _scale(self) -> NDArray[np.float64]:
        return np.array([*self.scale_xy, *self.scale_xy])
