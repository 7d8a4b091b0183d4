"""What is learned on top of a tower that leads to the joint space by itself: a residual, added to its vectors."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F


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
