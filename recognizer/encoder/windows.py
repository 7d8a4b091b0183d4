"""A fixed set of windows over the image: the regions of an encoder without a grounding decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.towers import ImageTower, TowerOutput


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Square windows on a lattice over the model input.

    The lattice, not the token grid, fixes the windows, so that their number does not grow with the grid: the
    defaults give 25 + 16 + 9 = 50 windows on any grid of 7x7 cells or more.

    Attributes:
        divisions: Lattice cells per axis.
        sizes: Side lengths of the windows, in lattice cells.
        stride: Step between neighbouring windows of a size, in lattice cells.
    """

    divisions: int = 7
    sizes: tuple[int, ...] = (3, 4, 5)
    stride: int = 1

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: If a size does not fit the lattice or the stride is not positive.
        """
        if not self.sizes or not all(1 <= size <= self.divisions for size in self.sizes):
            raise ValueError(f"window sizes {self.sizes} must lie between 1 and divisions = {self.divisions}")
        if self.stride < 1:
            raise ValueError(f"window stride {self.stride} must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {"divisions": self.divisions, "sizes": list(self.sizes), "stride": self.stride}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WindowSettings:
        """Read the values that `to_json` returns; raises TypeError on an unknown key."""
        return cls(**{**values, "sizes": tuple(values["sizes"])})


# Of a tower without tokens: 13 windows, because each one costs a pass of the tower.
CROP_WINDOWS = WindowSettings(divisions=4, sizes=(2, 3))


def window_cells(grid_hw: tuple[int, int], settings: WindowSettings) -> NDArray[np.int64]:
    """Windows of a grid, as half-open ranges of grid cells.

    Lattice edges are rounded to cell edges; windows that become equal on a coarse grid appear once.

    Args:
        grid_hw: Height and width of the grid, in cells.
        settings: The lattice and the sizes.

    Returns:
        (Q, 4) int64 left, top, right, bottom in cells; right and bottom are exclusive, no window is empty.
    """
    rows, columns = (_edges(length, settings.divisions) for length in grid_hw)
    cells = {
        (columns[x], rows[y], max(columns[x + size], columns[x] + 1), max(rows[y + size], rows[y] + 1)): None
        for size in settings.sizes
        for y in range(0, settings.divisions - size + 1, settings.stride)
        for x in range(0, settings.divisions - size + 1, settings.stride)
    }
    return np.array([cell for cell in cells if cell[2] <= grid_hw[1] and cell[3] <= grid_hw[0]], dtype=np.int64)


def window_boxes(
    cells_xyxy: NDArray[np.int64], grid_hw: tuple[int, int], input_size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Boxes of windows in model-input pixels, (Q, 4) float32 left, top, right, bottom."""
    pitch_y, pitch_x = input_size_hw[0] / grid_hw[0], input_size_hw[1] / grid_hw[1]
    return np.asarray(cells_xyxy * np.array([pitch_x, pitch_y, pitch_x, pitch_y]), dtype=np.float32)


def window_averages(cells_xyxy: NDArray[np.int64], grid_hw: tuple[int, int]) -> Tensor:
    """Return (Q, gh * gw) float32 weights, each row summing to 1: their product with tokens is the mean of each window.

    Args:
        cells_xyxy: (Q, 4) windows of the grid, in cells.
        grid_hw: gh and gw.
    """
    averages = np.zeros((len(cells_xyxy), *grid_hw), dtype=np.float32)
    for row, (x0, y0, x1, y1) in zip(averages, cells_xyxy, strict=True):
        row[y0:y1, x0:x1] = 1.0 / ((y1 - y0) * (x1 - x0))
    return torch.from_numpy(averages).flatten(1)


def pool_windows(tokens: Tensor, cells_xyxy: NDArray[np.int64]) -> Tensor:
    """Return the mean token of every window.

    Args:
        tokens: (B, gh, gw, C) token grid.
        cells_xyxy: (Q, 4) windows of that grid, in cells.

    Returns:
        (B, Q, C) float32.
    """
    weights = window_averages(cells_xyxy, (tokens.shape[1], tokens.shape[2])).to(tokens.device)
    pooled: Tensor = weights @ tokens.flatten(1, 2).float()
    return pooled


def regions_from_tokens(
    tower: ImageTower, output: TowerOutput, settings: WindowSettings
) -> tuple[Tensor, NDArray[np.float32]]:
    """Average the tokens of each window and project the means into the joint space.

    Args:
        tower: The one that returned the output.
        output: Of B images, with tokens.
        settings: The windows.

    Returns:
        (B, Q, D) vectors of any length and (Q, 4) boxes in model-input pixels.
    """
    cells = window_cells(output.grid_hw, settings)
    pooled = pool_windows(output.grid(), cells)
    vectors = tower.project(pooled.flatten(0, 1)).reshape(*pooled.shape[:2], -1)
    return vectors, window_boxes(cells, output.grid_hw, tower.preprocessing.size_hw)


def regions_from_crops(tower: ImageTower, pixels: Tensor) -> tuple[Tensor, NDArray[np.float32]]:
    """Cut windows out of the pixels, enlarge each to the model input, and encode it as an image.

    Args:
        tower: A tower without tokens.
        pixels: (B, 3, H, W) normalised pixels.

    Returns:
        (B, Q, D) vectors of any length and (Q, 4) boxes in model-input pixels.
    """
    height, width = pixels.shape[2:]
    cells = window_cells((height, width), CROP_WINDOWS)
    crops = [
        F.interpolate(pixels[:, :, y0:y1, x0:x1], size=(height, width), mode="bicubic", antialias=True)
        for x0, y0, x1, y1 in cells.tolist()
    ]
    vectors = torch.stack([tower.forward(crop).image_vectors() for crop in crops], dim=1)
    return vectors, window_boxes(cells, (height, width), (height, width))


def _edges(length: int, divisions: int) -> list[int]:
    return [round(index * length / divisions) for index in range(divisions + 1)]
