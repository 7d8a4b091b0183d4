"""The grounding decoder: from a tower's tokens to region vectors, their boxes and weights, and an image vector.

Two ways of using it, by its settings:

- As in GRAIN: learned region queries and one image query attend to the tokens and are projected to the joint space.
  Nothing of the tower's own image vector is left; it needs a large training set.
- With anchors and a residual, for small sets: each query starts from the tokens of its own window and learns where to
  look, as a box and a weight. The tower's own way to the joint space stays the backbone: the tokens inside the box are
  averaged, projected by the tower, and a learned residual may be added. (A learned attention over the tokens in place
  of the box was tried: trained on a few thousand scenes, it found less than the untrained windows.)

Letters: B images, N tokens of C channels, Q region queries of W channels, D dimensions of the joint space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.boxes import cxcywh_to_xyxy
from recognizer.encoder.decoder_layer import DecoderLayer, grid_centres, sine_positions
from recognizer.encoder.windows import WindowSettings, pool_windows, window_boxes, window_cells


class ResidualSettings(BaseModel):
    """What is added to the vectors of a tower that leads to the joint space by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(ge=1, description="The first dimensions of the joint space; the others stay the tower's.")
    gain: float = Field(default=1.0, ge=0, description="Length of what is added to the tower's part of length 1.")
    hidden: int = Field(default=512, ge=0, description="Width of the hidden layer; 0: no network, nothing is added.")


class Residual(nn.Module):
    """A small network over pooled tokens."""

    def __init__(self, settings: ResidualSettings, token_dim: int) -> None:
        """Make a network of random weights, from torch's random state."""
        super().__init__()
        self.settings = settings
        self.network = (
            nn.Sequential(
                nn.LayerNorm(token_dim),
                nn.Linear(token_dim, settings.hidden),
                nn.GELU(),
                nn.Linear(settings.hidden, settings.dim),
            )
            if settings.hidden
            else None
        )

    def join(self, own: Tensor, pooled: Tensor) -> Tensor:
        """Add the residual of pooled tokens to the tower's vectors.

        The changed dimensions keep their share of the length, so that the others keep theirs.

        Args:
            own: (..., D), of any length.
            pooled: (..., C).

        Returns:
            (..., D) float32 unit rows.
        """
        unit = F.normalize(own.float(), dim=-1)
        if self.network is None:
            return unit
        added = F.normalize(self.network(pooled).float(), dim=-1)
        dim = self.settings.dim
        changed, kept = unit[..., :dim], unit[..., dim:]
        turned = F.normalize(F.normalize(changed, dim=-1) + self.settings.gain * added, dim=-1)
        return F.normalize(torch.cat([changed.norm(dim=-1, keepdim=True) * turned, kept], dim=-1), dim=-1)


Project = Callable[[Tensor], Tensor]
_UNTRAINED_WEIGHT = 2.0  # logit of a region's weight before anything is learned
_EDGE = 0.03  # share of the input by which reference boxes keep away from 0 and 1, where a logit hardly moves a box


class DecoderSettings(BaseModel):
    """Sizes and parts of a grounding decoder; the defaults are those of GRAIN (arXiv 2412.04429)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(default=6, ge=0, description="Decoder layers.")
    width: int = Field(default=512, ge=8, multiple_of=4, description="Width of queries and projected tokens.")
    heads: int = Field(default=8, ge=1, description="Attention heads.")
    feedforward: int = Field(default=2048, ge=1, description="Width of the feed-forward layers.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout in the layers.")
    queries: int = Field(default=5, ge=1, description="Learned region queries, where there are no anchors.")
    positions: bool = Field(default=False, description="Add 2-D sine positions to tokens that carry none (CNNs).")
    anchors: WindowSettings | None = Field(
        default=None, description="Windows as reference points: one query each, that starts from its window's tokens."
    )
    counts_from: float = Field(
        default=0.5, gt=0, lt=1, description="Region weight, as trained, that an encoder gives out as 0.5."
    )
    vote_overlap: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Overlap (IoU) from which an encoder averages boxes with each other; null: it does not.",
    )
    residual: ResidualSettings | None = Field(
        default=None, description="Keep the tower's own vectors and add to them, rather than replace them."
    )

    def same_weights(self, other: DecoderSettings, *, but_residual: bool = False) -> bool:
        """Say whether weights of the one fit the other: all is equal but how their results are used.

        Args:
            other: settings.
            but_residual: leave the weights of the residual out of it; both have one, or neither.
        """
        use: dict[str, Any] = {"counts_from": True, "vote_overlap": True, "residual": but_residual or {"gain"}}
        both = (self.residual is None) == (other.residual is None)
        return both and self.model_dump(exclude=use) == other.model_dump(exclude=use)


@dataclass(frozen=True, slots=True)
class DecoderInput:
    """What a tower gives the decoder.

    Attributes:
        tokens: (B, N, C); the last gh * gw of them are the grid, row by row.
        grid_hw: gh and gw.
        image: (B, D) the tower's own image vectors, of any length; None where it has none.
        pooled: (B, C) the tokens summed up over the whole image; None likewise.
    """

    tokens: Tensor
    grid_hw: tuple[int, int]
    image: Tensor | None = None
    pooled: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Grounded:
    """What the decoder makes of B images.

    Attributes:
        image: (B, D) unit rows.
        regions: (B, Q, D) unit rows.
        boxes_cxcywh: (B, Q, 4) in [0, 1], shares of the model input's width and height.
        region_weight_logits: (B, Q); the sigmoid says how likely the query found something, or how well its box fits
            it, as it was trained.
    """

    image: Tensor
    regions: Tensor
    boxes_cxcywh: Tensor
    region_weight_logits: Tensor


class GroundingDecoder(nn.Module):
    """See the module."""

    _reference: Tensor  # (Q, 4) logits of the anchors, cxcywh
    _inside: Tensor  # (Q, gh * gw) bool: the cell is in the query's window

    def __init__(
        self, settings: DecoderSettings, *, token_dim: int, dim: int, grid_hw: tuple[int, int] | None = None
    ) -> None:
        """Make a decoder of random weights, from torch's random state.

        Args:
            settings: sizes and parts.
            token_dim: C.
            dim: D.
            grid_hw: the token grid; needed for anchors.

        Raises:
            ValueError: the parts do not fit together.
        """
        super().__init__()
        if settings.anchors is not None and grid_hw is None:
            raise ValueError("anchors need a token grid, and this tower has none")
        if settings.residual is not None and settings.residual.dim > dim:
            raise ValueError(f"residual.dim {settings.residual.dim} exceeds the {dim} dimensions of the joint space")
        self.settings = settings
        width = settings.width
        self.project_tokens = nn.Sequential(nn.Linear(token_dim, width, bias=False), nn.LayerNorm(width))
        if settings.anchors is None:
            self.query_positions = nn.Parameter(torch.randn(settings.queries, width))
        else:
            assert grid_hw is not None
            cells = window_cells(grid_hw, settings.anchors)
            self._cells = cells
            corners = torch.from_numpy(window_boxes(cells, grid_hw, (1, 1)))
            reference = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
            inside = pool_windows(torch.eye(grid_hw[0] * grid_hw[1]).reshape(-1, *grid_hw, 1), cells)[..., 0].T > 0
            self.register_buffer("_reference", torch.logit(reference.clamp(_EDGE, 1 - _EDGE)), persistent=False)
            self.register_buffer("_inside", inside, persistent=False)
            self.anchor_positions = nn.Linear(2 * width, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, settings.heads, settings.feedforward, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        last = nn.Linear(width, 4)
        self.box_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last)
        self.weight_head = nn.Linear(width, 1)
        if settings.residual is None:
            self.image_query = nn.Parameter(torch.randn(1, width))
            self.image_projection = nn.Linear(width, dim, bias=False)
            self.region_projection = nn.Linear(width, dim, bias=False)
        else:
            self.residual = Residual(settings.residual, token_dim)
        if settings.anchors is not None:  # an untrained query is its window, and counts
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            nn.init.zeros_(self.weight_head.weight)
            nn.init.constant_(self.weight_head.bias, _UNTRAINED_WEIGHT)

    def use(self, settings: DecoderSettings) -> None:
        """Use the results as other settings say that the same weights fit."""
        self.settings = settings
        if settings.residual is not None:
            self.residual.settings = settings.residual

    @property
    def queries(self) -> int:
        """Q, the number of regions."""
        return self.settings.queries if self.settings.anchors is None else len(self._cells)

    def forward(self, given: DecoderInput, project: Project) -> Grounded:
        """Ground a batch.

        Args:
            given: from the tower.
            project: the tower's `project`, which leads (M, C) averaged tokens to the joint space; unused without a
                residual.
        """
        tokens = self.project_tokens(given.tokens)
        positions = self._token_positions(given, tokens)
        start, query_positions = self._start(given, tokens)
        if self.settings.residual is None:
            start = torch.cat([start, start.new_zeros(len(start), 1, start.shape[-1])], dim=1)
            query_positions = torch.cat([query_positions, self.image_query])
        for layer in self.layers:
            start = layer(start, query_positions, tokens, positions)
        decoded = self.norm(start)
        found = decoded[:, : self.queries]
        boxes = self.box_head(found).float()
        boxes = (boxes if self.settings.anchors is None else boxes + self._reference).sigmoid()
        if self.settings.residual is None:
            image = F.normalize(self.image_projection(decoded[:, -1]).float(), dim=-1)
            regions = F.normalize(self.region_projection(found).float(), dim=-1)
        else:
            image, regions = self._add_residual(given, boxes, project)
        return Grounded(image, regions, boxes, self.weight_head(found)[..., 0].float())

    def _token_positions(self, given: DecoderInput, tokens: Tensor) -> Tensor:
        if not self.settings.positions:
            return tokens.new_zeros(1, 1)
        grid = sine_positions(grid_centres(given.grid_hw, tokens.device), tokens.shape[-1]).to(tokens.dtype)
        return F.pad(grid, (0, 0, tokens.shape[1] - len(grid), 0))

    def _start(self, given: DecoderInput, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, Q, W) queries before the first layer and their (Q, W) positions."""
        if self.settings.anchors is None:
            zeros = tokens.new_zeros(len(tokens), self.settings.queries, tokens.shape[-1])
            return zeros, self.query_positions
        grid_height, grid_width = given.grid_hw
        grid = tokens[:, tokens.shape[1] - grid_height * grid_width :]
        own = self._inside.to(tokens.dtype)
        start = (own / own.sum(1, keepdim=True)) @ grid
        reference = self._reference.sigmoid()
        width = tokens.shape[-1]
        places = torch.cat([sine_positions(reference[:, :2], width), sine_positions(reference[:, 2:], width)], dim=1)
        return start, self.anchor_positions(places.to(tokens.dtype))

    def _add_residual(self, given: DecoderInput, boxes_cxcywh: Tensor, project: Project) -> tuple[Tensor, Tensor]:
        """Return image and region vectors: the tower's own over what the boxes show, plus the learned residual."""
        if given.image is None or given.pooled is None:
            raise ValueError("a residual needs a tower with its own way to the joint space")
        inside = box_coverage(boxes_cxcywh.detach(), given.grid_hw)  # boxes learn from boxes alone
        seen = inside @ given.tokens[:, -inside.shape[-1] :].float()
        own = project(seen.flatten(0, 1)).reshape(*seen.shape[:2], -1)
        return self.residual.join(given.image, given.pooled), self.residual.join(own, seen)


def box_coverage(boxes_cxcywh: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Say how much of a box lies in each cell of a grid over the model input.

    Args:
        boxes_cxcywh: (..., 4) shares of the input's width and height, of positive area inside the input.
        grid_hw: gh and gw.

    Returns:
        (..., gh * gw) float32, row by row, each summing to 1.
    """
    corners = cxcywh_to_xyxy(boxes_cxcywh.float())
    along = []
    for axis, cells in ((1, grid_hw[0]), (0, grid_hw[1])):
        edges = torch.arange(cells + 1, device=corners.device) / cells
        low, high = corners[..., axis, None], corners[..., axis + 2, None]
        along.append((torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0))
    covered = (along[0][..., :, None] * along[1][..., None, :]).flatten(-2)
    return covered / covered.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(covered.dtype).tiny)
