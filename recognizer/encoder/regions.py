"""Region vectors from an image tower, over a fixed set of windows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.towers import ImageTower
from recognizer.encoder.windows import WindowSettings, pool_windows, window_boxes, window_cells

CROP_WINDOWS = WindowSettings(divisions=4, sizes=(2, 3))  # 13 windows: each one costs a pass of the tower


def regions_from_tokens(
    tower: ImageTower, tokens: Tensor, settings: WindowSettings
) -> tuple[Tensor, NDArray[np.float32]]:
    """Pool the token grid over the windows and lead the means to the joint space.

    Args:
        tower: Where the tokens come from.
        tokens: (B, gh, gw, C).
        settings: Which windows.

    Returns:
        (B, Q, D) vectors of any length and (Q, 4) boxes in model-input pixels.
    """
    batch, *grid = tokens.shape[:3]
    grid_hw = (grid[0], grid[1])
    cells = window_cells(grid_hw, settings)
    pooled = pool_windows(tokens, cells)
    vectors = tower.project(pooled.flatten(0, 1)).reshape(batch, len(cells), -1)
    return vectors, window_boxes(cells, grid_hw, tower.preprocessing.size_hw)


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
    vectors = torch.stack([tower.forward(crop).image for crop in crops], dim=1)
    return vectors, window_boxes(cells, (height, width), (height, width))
