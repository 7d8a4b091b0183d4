"""A fixed set of windows over a token grid: the regions of an encoder that has no grounding decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Square windows on a lattice laid over the model input.

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
        """Read what `to_json` wrote; raises TypeError on an unknown key."""
        return cls(**{**values, "sizes": tuple(values["sizes"])})


def window_cells(grid_hw: tuple[int, int], settings: WindowSettings) -> NDArray[np.int64]:
    """Windows of a grid, as half-open ranges of grid cells.

    Lattice edges are rounded to cell edges; windows that become equal on a coarse grid appear once.

    Args:
        grid_hw: Height and width of the grid, in cells.
        settings: Which windows.

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


def pool_windows(tokens: Tensor, cells_xyxy: NDArray[np.int64]) -> Tensor:
    """Mean token of every window.

    Args:
        tokens: (B, gh, gw, C) token grid.
        cells_xyxy: (Q, 4) windows of that grid, in cells.

    Returns:
        (B, Q, C) float32.
    """
    batch, grid_height, grid_width, channels = tokens.shape
    averaging = np.zeros((len(cells_xyxy), grid_height, grid_width), dtype=np.float32)
    for row, (x0, y0, x1, y1) in zip(averaging, cells_xyxy, strict=True):
        row[y0:y1, x0:x1] = 1.0 / ((y1 - y0) * (x1 - x0))
    weights = torch.from_numpy(averaging).flatten(1).to(tokens.device)
    pooled: Tensor = weights @ tokens.reshape(batch, grid_height * grid_width, channels).float()
    return pooled


def _edges(length: int, divisions: int) -> list[int]:
    return [round(index * length / divisions) for index in range(divisions + 1)]
