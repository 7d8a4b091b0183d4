"""What an encoder returns for images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Whole-image and region vectors of a batch, in the joint space of images and texts.

    B images, Q regions each, D dimensions; all arrays are float32.

    Attributes:
        image: (B, D) unit rows.
        regions: (B, Q, D) unit rows.
        boxes_xyxy: (B, Q, 4) left, top, right, bottom in pixels of the displayed image, clipped to it.
        region_weight: (B, Q) in [0, 1]: the share of the region that shows image rather than padding, times how
            much the encoder makes of it.
    """

    image: NDArray[np.float32]
    regions: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    region_weight: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that the four arrays belong together.

        Raises:
            ValueError: If a shape does not follow from the shape of `regions`.
        """
        batch, queries, dim = self.regions.shape
        expected = {
            "image": (batch, dim),
            "boxes_xyxy": (batch, queries, 4),
            "region_weight": (batch, queries),
        }
        for field, shape in expected.items():
            actual = getattr(self, field).shape
            if actual != shape:
                raise ValueError(f"{field} has shape {actual}, but regions {self.regions.shape} ask for {shape}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image)

    def take(self, positions: int | NDArray[np.int64]) -> ImageFeatures:
        """Keep some images: one by its number, or several; the batch axis stays."""
        rows = np.atleast_1d(np.asarray(positions, dtype=np.int64))
        return ImageFeatures(
            image=self.image[rows],
            regions=self.regions[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            region_weight=self.region_weight[rows],
        )

    @classmethod
    def concatenate(cls, parts: list[ImageFeatures]) -> ImageFeatures:
        """Join batches of one encoder along the image axis; `parts` must not be empty."""
        return cls(
            image=np.concatenate([part.image for part in parts]),
            regions=np.concatenate([part.regions for part in parts]),
            boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
            region_weight=np.concatenate([part.region_weight for part in parts]),
        )
