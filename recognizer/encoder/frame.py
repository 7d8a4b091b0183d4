"""The way between the pixels a model sees and the pixels a person sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """How one displayed image was laid into the model input: displayed = (input - offset) * scale, per axis.

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
