"""The grounding decoder of GRAIN (arXiv 2412.04429): learned queries that find regions, their boxes and vectors.

A decoder reads the tokens of an image tower and returns an image vector and, for each query, a region vector, a box and
a weight. `QueryDecoder` is the paper's: its queries and its projections into the joint space are learned, which takes a
large training set. `recognizer.encoder.anchor_decoder` has one for small sets. `GroundingDecoder` is what both share.

Letters: B images, N tokens of C channels, Q region queries of W channels, D dimensions of the joint space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.decoder_layer import DecoderLayer, grid_centres, sine_positions
from recognizer.encoder.towers import ImageTower, TowerOutput
from recognizer.encoder.windows import WindowSettings


class DecoderSettings(BaseModel):
    """Sizes and parts of a grounding decoder; the defaults are those of GRAIN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(default=6, ge=0, description="Decoder layers.")
    width: int = Field(default=512, ge=8, multiple_of=4, description="Width of queries and projected tokens.")
    heads: int = Field(default=8, ge=1, description="Attention heads.")
    feedforward: int = Field(default=2048, ge=1, description="Width of the feed-forward layers.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout in the layers.")
    queries: int = Field(default=5, ge=1, description="Learned region queries; not used with anchors.")
    positions: bool = Field(default=False, description="Add 2-D sine positions to tokens that carry none (CNNs).")
    anchors: WindowSettings | None = Field(
        default=None,
        description="One query for each of these windows, and the tower's own projection; null: learned queries.",
    )
    counts_from: float = Field(
        default=0.5, gt=0, lt=1, description="Region weight, as trained, that an encoder returns as 0.5."
    )
    vote_overlap: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Overlap (IoU) from which an encoder averages boxes with each other; null: it does not.",
    )

    def same_weights(self, other: DecoderSettings) -> bool:
        """Say whether weights of the one fit the other: they differ at most in how an encoder uses the results."""
        use = {"counts_from", "vote_overlap"}
        return self.model_dump(exclude=use) == other.model_dump(exclude=use)


@dataclass(frozen=True, slots=True)
class DecoderOutput:
    """What a decoder returns for B images with Q queries each; Q is 0 for an encoder without a decoder.

    Attributes:
        image: (B, D) float32 unit rows.
        regions: (B, Q, D) float32 unit rows.
        boxes_cxcywh: (B, Q, 4) float32 in [0, 1], shares of the model input's width and height.
        weight_logits: (B, Q) float32; the sigmoid says how likely the query found something, or how well its box fits
            it, depending on how it was trained.
    """

    image: Tensor
    regions: Tensor
    boxes_cxcywh: Tensor
    weight_logits: Tensor

    @classmethod
    def of_images(cls, vectors: Tensor) -> DecoderOutput:
        """Return image vectors, (B, D) of any length, as the output of no queries."""
        unit = F.normalize(vectors.float(), dim=-1)
        batch, dim = unit.shape
        return cls(unit, unit.new_zeros(batch, 0, dim), unit.new_zeros(batch, 0, 4), unit.new_zeros(batch, 0))


class GroundingDecoder(nn.Module, ABC):
    """The layers and heads that every decoder has.

    Attributes:
        settings: sizes and parts. Others with the same weights may be assigned later.
    """

    def __init__(self, settings: DecoderSettings, *, token_dim: int) -> None:
        """Make layers of random weights, from torch's random state.

        Args:
            settings: sizes and parts.
            token_dim: C.
        """
        super().__init__()
        self.settings = settings
        width = settings.width
        self.project_tokens = nn.Sequential(nn.Linear(token_dim, width, bias=False), nn.LayerNorm(width))
        self.layers = nn.ModuleList(
            DecoderLayer(width, settings.heads, settings.feedforward, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.box_head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
        )
        self.weight_head = nn.Linear(width, 1)

    @property
    @abstractmethod
    def queries(self) -> int:
        """Q, the number of regions."""

    @abstractmethod
    def read(self, tower: ImageTower, pixels: Tensor) -> TowerOutput:
        """Run the image tower for the tokens that this decoder reads; pixels are (B, 3, H, W) normalised."""

    @abstractmethod
    def forward(self, output: TowerOutput) -> DecoderOutput:
        """Find the regions of B images in the output of `read`."""

    def decode(self, queries: Tensor, query_positions: Tensor, tokens: Tensor, output: TowerOutput) -> Tensor:
        """Run the layers.

        Args:
            queries: (B, K, W) before the first layer.
            query_positions: (K, W).
            tokens: (B, N, W) projected.
            output: where the tokens come from, for the grid.

        Returns:
            (B, K, W) normalised queries after the last layer.
        """
        positions = self._token_positions(tokens, output.grid_hw)
        for layer in self.layers:
            queries = layer(queries, query_positions, tokens, positions)
        decoded: Tensor = self.norm(queries)
        return decoded

    def _token_positions(self, tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Return (N, W) positions to be added to the tokens; a class token before the grid has position 0."""
        if not self.settings.positions:
            return tokens.new_zeros(1, 1)
        grid = sine_positions(grid_centres(grid_hw, tokens.device), tokens.shape[-1]).to(tokens.dtype)
        return F.pad(grid, (0, 0, tokens.shape[1] - len(grid), 0))


class QueryDecoder(GroundingDecoder):
    """GRAIN's decoder: Q learned region queries and one image query, all projected into the joint space.

    The queries start at zero and differ by their learned positions. The tower's own image vector is not used.
    """

    def __init__(self, settings: DecoderSettings, *, token_dim: int, dim: int) -> None:
        """Make a decoder of random weights, from torch's random state.

        Args:
            settings: sizes; without anchors.
            token_dim: C.
            dim: D.
        """
        super().__init__(settings, token_dim=token_dim)
        width = settings.width
        self.query_positions = nn.Parameter(torch.randn(settings.queries, width))
        self.image_query = nn.Parameter(torch.randn(1, width))
        self.image_projection = nn.Linear(width, dim, bias=False)
        self.region_projection = nn.Linear(width, dim, bias=False)

    @property
    def queries(self) -> int:
        """Q, the number of regions; the image query comes on top."""
        return self.settings.queries

    def read(self, tower: ImageTower, pixels: Tensor) -> TowerOutput:
        """Run the tower for its final tokens."""
        return tower.final_tokens(pixels)

    def forward(self, output: TowerOutput) -> DecoderOutput:
        """Find the regions of B images."""
        tokens = self.project_tokens(output.tokens)
        positions = torch.cat([self.query_positions, self.image_query])
        start = tokens.new_zeros(tokens.shape[0], *positions.shape)
        decoded = self.decode(start, positions, tokens, output)
        regions, image = decoded[:, :-1], decoded[:, -1]
        return DecoderOutput(
            image=F.normalize(self.image_projection(image).float(), dim=-1),
            regions=F.normalize(self.region_projection(regions).float(), dim=-1),
            boxes_cxcywh=self.box_head(regions).float().sigmoid(),
            weight_logits=self.weight_head(regions)[..., 0].float(),
        )
