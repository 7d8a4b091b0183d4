"""What an encoder is made of: one tower per modality, behind two small protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.decoder import DecoderInput, GroundingDecoder
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.starter.text_classifiers import Written
from recognizer.encoder.windows import WindowSettings, pool_windows, window_boxes, window_cells


@dataclass(frozen=True, slots=True)
class TowerOutput:
    """One pass of an image tower over B images.

    Attributes:
        image: (B, D) float32 vectors in the joint space, of any length.
        tokens: (B, gh, gw, C) float32 grid over the model input, to be averaged over windows and then given to
            `ImageTower.project`; None where the tower has no tokens that lead to the joint space.
    """

    image: Tensor
    tokens: Tensor | None


class ImageTower(Protocol):
    """Pixels in, one vector per image and a grid of tokens out."""

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become this tower's pixels."""

    @property
    def region_source(self) -> str:
        """Where region vectors come from, in words for people."""

    @property
    def certain_length(self) -> float:
        """Length of a region's vector, before it is made a unit row, from which on the region counts in full.

        0 where the length says nothing about how much there is to see.
        """

    @property
    def network(self) -> nn.Module:
        """What training changes."""

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Run the trunk once over (B, 3, H, W) normalised float32 pixels."""

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """Run the trunk once, for a grounding decoder.

        Args:
            pixels: (B, 3, H, W) normalised float32.
            dense: Give tokens that `project` leads to the joint space, with the image vectors and their `pooled`;
                else the trunk's final tokens, whatever they are.

        Raises:
            ValueError: If the tower has no tokens.
        """

    def project(self, pooled: Tensor) -> Tensor:
        """Lead (N, C) averaged tokens to (N, D) float32 vectors of any length in the joint space."""


class TextTower(Protocol):
    """Token sequences in, one vector per text out."""

    @property
    def network(self) -> nn.Module | None:
        """What training changes; None where it cannot be trained."""

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""

    @property
    def context_length(self) -> int:
        """The most tokens one text may have, special tokens included."""

    @property
    def pad_id(self) -> int:
        """Token that fills a sequence up; it must not change the vector of the text."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to the context, as short as the tower can see them.

        A tower whose vector depends on the padding returns every sequence at full context length.
        """

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context, special tokens included."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) int64 padded token ids to (N, D) float32 vectors of any length in the joint space."""


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """Everything a family of models hands over to make an `Encoder`.

    Attributes:
        name: What people call the encoder.
        fingerprint: Hash over architecture, weights, tokenizer and preprocessing.
        spec: JSON values from which `Encoder.from_spec` makes the same encoder again.
        image_tower: Already on its device, in its precision.
        text_tower: Likewise.
        templates: Texts around a category name that suit the model, with `{}` for the name.
        windows: The regions, where there is no decoder.
        temperature: Divides cosines before a softmax over categories, until one is fitted.
        decoder: Finds the regions, where there is one.
        written: The classifiers by which both towers were widened, if they were.
        towers: Hash as `fingerprint`, without the decoder; empty where there is none.
    """

    name: str
    fingerprint: str
    spec: dict[str, Any]
    image_tower: ImageTower
    text_tower: TextTower
    templates: tuple[str, ...]
    windows: WindowSettings
    temperature: float
    decoder: GroundingDecoder | None = None
    written: Written | None = None
    towers: str = ""

    @property
    def tower_fingerprint(self) -> str:
        """Hash of what makes tokens, pooled features and text vectors: the same under every decoder."""
        return self.towers or self.fingerprint


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


Network: TypeAlias = Any
"""An `nn.Module` of open_clip or timm, used through the attributes its library gives it."""

Tokenizer: TypeAlias = Any
"""A tokenizer of open_clip or of `tokenizers`."""
