"""The box format that decoders predict."""

from __future__ import annotations

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes from centre and size to corners, same dtype and frame."""
    centres, sizes = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)
