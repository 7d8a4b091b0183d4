"""The boxes that decoders predict: their format, and what those that agree on an object make of it together."""

from __future__ import annotations

import torch
from torch import Tensor

_OWN_VOTE = 1e-12  # so that a box without any trust stays where it is


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes from centre and size to corners, same dtype and frame."""
    centres, sizes = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)


def pairwise_iou(boxes_xyxy: Tensor) -> Tensor:
    """Return the overlap (intersection over union) of each box with each other of its image.

    Args:
        boxes_xyxy: (B, Q, 4) with sides of at least 0.

    Returns:
        (B, Q, Q); 0 for two boxes without area.
    """
    low = torch.maximum(boxes_xyxy[:, :, None, :2], boxes_xyxy[:, None, :, :2])
    high = torch.minimum(boxes_xyxy[:, :, None, 2:], boxes_xyxy[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    areas = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).prod(dim=-1)
    union = areas[:, :, None] + areas[:, None] - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def vote_boxes(boxes_xyxy: Tensor, trust: Tensor, overlap: float) -> Tensor:
    """Average each box with those it overlaps (box voting, Gidaris & Komodakis 2015).

    Several queries find one object, each off in its own way; their mean is nearer to it than one of them.

    Args:
        boxes_xyxy: (B, Q, 4) with sides of at least 0.
        trust: (B, Q), how much each box counts, at least 0.
        overlap: IoU from which a box takes part in another's mean, in (0, 1]; at 1 only equal boxes do.

    Returns:
        (B, Q, 4).
    """
    votes = (pairwise_iou(boxes_xyxy) >= overlap).float() * trust[:, None]
    votes = votes + torch.diag_embed(torch.full_like(trust, _OWN_VOTE))
    return votes @ boxes_xyxy / votes.sum(dim=-1, keepdim=True)
