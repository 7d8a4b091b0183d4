"""What the model makes of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Regions:
    """Of B images with Q queries each.

    Attributes:
        embeddings: (B, Q, D) float32 unit rows.
        boxes_cxcywh: (B, Q, 4) float32 in [0, 1], shares of the model input.
        weight_logits: (B, Q) float32.
    """

    embeddings: Tensor
    boxes_cxcywh: Tensor
    weight_logits: Tensor


@dataclass(frozen=True, slots=True)
class Outputs:
    """Of B samples with N descriptions.

    Attributes:
        images: (B, D) float32 unit rows.
        captions: (B, D) float32 unit rows.
        descriptions: (N, D) float32 unit rows; N = 0 where nothing is learned from them.
        regions: None without a decoder.
    """

    images: Tensor
    captions: Tensor
    descriptions: Tensor
    regions: Regions | None

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""
        regions = self.regions
        found = [] if regions is None else [regions.embeddings, regions.boxes_cxcywh, regions.weight_logits]
        return [self.images, self.captions, self.descriptions, *found]

    def map(self, change: Callable[[Tensor], Tensor]) -> Outputs:
        """Apply a function to every tensor."""
        return _from_tensors([change(tensor) for tensor in self.tensors()])

    @classmethod
    def concatenate(cls, parts: Sequence[Outputs]) -> Outputs:
        """Join the outputs of consecutive parts of a batch."""
        return _from_tensors([torch.cat(tensors) for tensors in zip(*(part.tensors() for part in parts), strict=True)])


def _from_tensors(tensors: Sequence[Tensor]) -> Outputs:
    images, captions, descriptions, *found = tensors
    return Outputs(images, captions, descriptions, Regions(*found) if found else None)
