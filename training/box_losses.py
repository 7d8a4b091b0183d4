"""The losses on boxes and region weights, as pure functions: L_box of matched boxes, and what a weight should predict.

Each function returns the sum over this rank's batch with the number it is counted by; `training.objective` averages
over the ranks. Padding and boxes without a query add nothing and get zero gradient; nothing depends on the values that
padding holds. Computed in float32 or wider.

Letters: b images of this rank, Q queries, M box slots per image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recognizer.encoder.boxes import at_least_float32, cxcywh_to_xyxy, giou, pairwise_iou
from training.distributed import RankSum
from training.matcher import Matches


def box_loss(
    predicted_boxes_cxcywh: Tensor, target_boxes_cxcywh: Tensor, target_mask: Tensor, matches: Matches
) -> tuple[RankSum, RankSum]:
    """Compute L_box: L1 distance and 1 - GIoU of the matched pairs, counted by all boxes, matched or not.

    As in DETR (Carion et al. 2020, appendix A.2).

    Args:
        predicted_boxes_cxcywh: (b, Q, 4).
        target_boxes_cxcywh: (b, M, 4) in the same frame.
        target_mask: (b, M) bool, true for real boxes.
        matches: of the two.

    Returns:
        L1 (the sum over the four numbers of cxcywh), and GIoU.
    """
    # An unmatched slot compares one fixed box with itself: both distances and both gradients are exactly 0, and nothing
    # that is not finite in padding can reach them.
    matched = matches.matched[..., None]
    predicted = torch.where(matched, at_least_float32(matches.at_boxes(predicted_boxes_cxcywh)), 0.5)
    target = torch.where(matched, at_least_float32(target_boxes_cxcywh), 0.5)
    boxes = target_mask.sum()
    overlap = giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
    return RankSum((predicted - target).abs().sum(), boxes), RankSum((1 - overlap).sum(), boxes)


def region_weight_loss(weight_logits: Tensor, matches: Matches) -> RankSum:
    """Compute the binary cross-entropy of "this query is matched with a box", over the queries of images with boxes.

    An image without boxes does not tell which of its queries found nothing: it is left out.

    Args:
        weight_logits: (b, Q); the sigmoid is the region's weight.
        matches: of the batch.
    """
    matched = matches.box_of_query >= 0
    return _binary(weight_logits, matched, counted=matched.any(1))


def region_overlap_loss(
    weight_logits: Tensor, predicted_boxes_cxcywh: Tensor, target_boxes_cxcywh: Tensor, target_mask: Tensor
) -> RankSum:
    """Compute the binary cross-entropy of the weights with each query's best IoU with a box, which they then predict.

    Where several queries learn from one box, which of equally good queries is matched is a matter of chance and says
    less than how well a query's box fits. Over the queries of images with boxes.

    Args:
        weight_logits: (b, Q); the sigmoid is the region's weight.
        predicted_boxes_cxcywh: (b, Q, 4); they get no gradient.
        target_boxes_cxcywh: (b, M, 4) in the same frame.
        target_mask: (b, M) bool, true for real boxes.
    """
    predicted, target = cxcywh_to_xyxy(predicted_boxes_cxcywh.detach()), cxcywh_to_xyxy(target_boxes_cxcywh)
    overlaps = torch.where(target_mask[:, None], pairwise_iou(predicted, target), 0)
    return _binary(weight_logits, overlaps.amax(2), counted=target_mask.any(1))


def _binary(logits: Tensor, targets: Tensor, *, counted: Tensor) -> RankSum:
    """Sum the binary cross-entropy over all queries of the counted images; (b, Q), (b, Q) and (b,) bool."""
    logits = at_least_float32(logits)
    losses = functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return RankSum(torch.where(counted[:, None], losses, 0).sum(), counted.sum() * logits.shape[1])
