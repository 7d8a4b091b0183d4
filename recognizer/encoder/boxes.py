"""Boxes as tensors: formats, overlap of two boxes, and the mean of boxes that overlap.

Formats, always the last dimension: `xyxy` is (x0, y0, x1, y1), `cxcywh` is (centre x, centre y, width, height). The
frame is the caller's: nothing here depends on whether a unit is a pixel or a share of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SELF_VOTE = 1e-12  # keeps a box with no trusted neighbour in place instead of dividing by 0


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes from centre and size to corners, same dtype and frame."""
    centres, sizes = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (..., 4) boxes from corners to centre and size, same dtype and frame."""
    top_left, bottom_right = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def giou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Compute generalised IoU, box against box: IoU - (hull - union) / hull (Rezatofighi et al. 2019, algorithm 1).

    Degenerate boxes have finite values and gradients: a side turned inside out counts as 0, and a ratio of two zero
    areas is 0, so that two boxes whose hull has no area have GIoU 0 (even when they are equal).

    Args:
        boxes_xyxy: (..., 4) floating; half precision is computed in float32, where small areas do not vanish.
        others_xyxy: (..., 4) in the same frame; the leading dimensions broadcast.

    Returns:
        (...) float32 (float64 from float64) in [-1, 1].
    """
    intersection, union, hull = _areas(boxes_xyxy, others_xyxy)
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def pairwise_giou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Compute generalised IoU of every box with every other one: (..., N, 4) and (..., M, 4) give (..., N, M).

    Otherwise as `giou`. Leading dimensions are batches: boxes of different images are never compared.
    """
    return giou(boxes_xyxy[..., :, None, :], others_xyxy[..., None, :, :])


def pairwise_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Compute intersection over union of every box with every other one: shapes as `pairwise_giou`, in [0, 1]."""
    intersection, union, _ = _areas(boxes_xyxy[..., :, None, :], others_xyxy[..., None, :, :])
    return _ratio(intersection, union)


def vote_boxes(boxes_xyxy: Tensor, trust: Tensor, overlap: float) -> Tensor:
    """Average each box with the boxes it overlaps (box voting, Gidaris & Komodakis 2015).

    Several queries find the same object, each with its own error; their mean is nearer to it than each one alone.

    Args:
        boxes_xyxy: (B, Q, 4) with sides of at least 0.
        trust: (B, Q), how much each box counts, at least 0.
        overlap: smallest IoU at which a box joins another's mean, in (0, 1]; at 1 only equal boxes do.

    Returns:
        (B, Q, 4).
    """
    votes = (pairwise_iou(boxes_xyxy, boxes_xyxy) >= overlap).float() * trust[:, None]
    votes = votes + torch.diag_embed(torch.full_like(trust, _SELF_VOTE))
    return votes @ boxes_xyxy / votes.sum(dim=-1, keepdim=True)


def at_least_float32(values: Tensor) -> Tensor:
    """Return float16 and bfloat16 values in float32, others unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _areas(boxes_xyxy: Tensor, others_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return intersection, union and the area of the smallest box around both; sides turned inside out count as 0."""
    ax0, ay0, ax1, ay1 = at_least_float32(boxes_xyxy).unbind(-1)
    bx0, by0, bx1, by1 = at_least_float32(others_xyxy).unbind(-1)
    ax1, ay1 = torch.maximum(ax0, ax1), torch.maximum(ay0, ay1)
    bx1, by1 = torch.maximum(bx0, bx1), torch.maximum(by0, by1)
    shared_width = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    shared_height = (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    hull_width = torch.maximum(ax1, bx1) - torch.minimum(ax0, bx0)
    hull_height = torch.maximum(ay1, by1) - torch.minimum(ay0, by0)
    intersection = shared_width * shared_height
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - intersection
    return intersection, union, hull_width * hull_height


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, 0 where the whole is not positive, with a gradient that is finite there too."""
    empty = whole <= 0
    return part.masked_fill(empty, 0) / whole.masked_fill(empty, 1)
