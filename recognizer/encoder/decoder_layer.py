"""One layer of the grounding decoder, and positions for tokens that carry none."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WAVELENGTHS = 10_000.0  # ratio of the longest to the shortest wavelength, as in Vaswani et al. 2017


class DecoderLayer(nn.Module):
    """Self-attention over the queries, cross-attention to the tokens, feed-forward; each pre-norm and residual.

    DETR's decoder layer (Carion et al. 2020) with its pre-norm option, as GRAIN uses it: the query positions are added
    to queries and keys of the self-attention and to the queries of the cross-attention, never to values.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        """Make a layer of random weights."""
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm_self, self.norm_cross, self.norm_feedforward = (nn.LayerNorm(width) for _ in range(3))
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, query_positions: Tensor, tokens: Tensor, token_positions: Tensor) -> Tensor:
        """Refine (B, Q, W) queries by (B, N, W) tokens; positions are (Q, W) and (N, W), or broadcast to these."""
        normed = self.norm_self(queries)
        placed = normed + query_positions
        queries = queries + self.dropout(self.self_attention(placed, placed, normed, need_weights=False)[0])
        placed = self.norm_cross(queries) + query_positions
        seen = self.cross_attention(placed, tokens + token_positions, tokens, need_weights=False)[0]
        queries = queries + self.dropout(seen)
        refined: Tensor = queries + self.dropout(self.feedforward(self.norm_feedforward(queries)))
        return refined


def sine_positions(points_xy: Tensor, width: int) -> Tensor:
    """Encode points by sines and cosines of geometrically spaced wavelengths, half of the channels for each axis.

    Args:
        points_xy: (N, 2) points, as shares of the input's width and height.
        width: channels, a multiple of 4.

    Returns:
        (N, width) float32 (Vaswani et al. 2017 on two axes, as in DETR).
    """
    count = width // 4
    exponents = torch.arange(count, dtype=torch.float32, device=points_xy.device) / count
    angles = (2 * math.pi * points_xy.float())[..., None] / _WAVELENGTHS**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def grid_centres(grid_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Return (gh * gw, 2) x, y centres of a grid's cells, row by row, as shares of the input's width and height."""
    y, x = ((torch.arange(length, device=device) + 0.5) / length for length in grid_hw)
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], dim=1)
