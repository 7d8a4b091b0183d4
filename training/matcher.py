"""Bipartite matching of region queries to boxes, for the whole batch at once and on box cost alone.

The cost is that of GRAIN and DETR, 5 L1 - 2 GIoU, without DETR's class term, as there are no classes. Each image is an
assignment problem of its own, so costs are computed within images, in one (B, Q, M) tensor. With few queries every
assignment is tried on the device: adding up the 120 permutations of 5 queries takes less time than moving the costs to
the CPU. This module knows no embeddings, texts or losses.

Letters: B images, Q queries, M box slots (padded), K = min(Q, M) pairs of a full assignment.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from recognizer.encoder.boxes import at_least_float32, cxcywh_to_xyxy, pairwise_giou

MOST_QUERIES_ENUMERATED = 6
"""Up to here assignments are enumerated on the device; 6 queries and 6 boxes have 720."""

MOST_ASSIGNMENTS_ENUMERATED = 5040
"""More boxes than queries can have many more assignments; beyond this number scipy is faster."""

LARGEST_COST = 1e30
"""A cost of this size or more, like one that is not a number, is replaced by one that every other cost beats."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The pairs of queries and boxes; every query and every box is in at most one pair.

    Attributes:
        query_of_box: (B, M) int64, -1 for padding and, where there are more boxes than queries, for unmatched boxes.
        box_of_query: (B, Q) int64, -1 for queries without a box; the same pairs.
    """

    query_of_box: Tensor
    box_of_query: Tensor

    @classmethod
    def of_boxes(cls, query_of_box: Tensor, queries: int) -> Matches:
        """Make them of the (B, M) query of each box, or -1, among so many queries."""
        batch, slots = query_of_box.shape
        box_of_query = query_of_box.new_full((batch, queries + 1), -1)  # the last column takes boxes without a query
        places = torch.where(query_of_box >= 0, query_of_box, queries)
        box_of_query.scatter_(1, places, torch.arange(slots, device=places.device).expand(batch, slots))
        return cls(query_of_box, box_of_query[:, :queries])

    @property
    def matched(self) -> Tensor:
        """(B, M) bool: the box has a query."""
        return self.query_of_box >= 0

    def at_boxes(self, values: Tensor) -> Tensor:
        """Put each query's row at its box, with gradient.

        Args:
            values: (B, Q, D) one row for each query, Q >= 1.

        Returns:
            (B, M, D); where `matched` is false, the row of query 0, which the caller masks.
        """
        rows = self.query_of_box.clamp(min=0)[..., None].expand(-1, -1, values.shape[-1])
        return values.gather(1, rows)


@torch.no_grad()
def match(
    predicted_boxes_cxcywh: Tensor,
    target_boxes_cxcywh: Tensor,
    target_mask: Tensor,
    *,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
) -> Matches:
    """Find, in each image, the cheapest assignment of min(Q, its number of boxes) queries to boxes.

    Exact: the total cost is the one `scipy.optimize.linear_sum_assignment` finds, up to float32 rounding. A pair whose
    cost is not finite loses against every finite one, and the result is still a valid assignment. Among equal totals
    the first in a fixed order wins: queries with equal predictions go to the boxes in order.

    Args:
        predicted_boxes_cxcywh: (B, Q, 4) floating, computed in float32 also under autocast.
        target_boxes_cxcywh: (B, M, 4) in the same frame, M >= 0; padding may hold anything.
        target_mask: (B, M) bool, true for real boxes.
        l1_weight: of the L1 distance of cxcywh.
        giou_weight: of the negated generalised IoU.

    Returns:
        The pairs, on the device of the predictions. No gradient.

    Raises:
        ValueError: the shapes do not fit.
    """
    _check_shapes(predicted_boxes_cxcywh, target_boxes_cxcywh, target_mask)
    batch, queries, slots = *predicted_boxes_cxcywh.shape[:2], target_boxes_cxcywh.shape[1]
    if not batch or not queries or not slots:
        query_of_box = target_mask.new_full((batch, slots), -1, dtype=torch.int64)
    else:
        cost = box_cost(predicted_boxes_cxcywh, target_boxes_cxcywh, l1_weight=l1_weight, giou_weight=giou_weight)
        cost = _outweigh(cost, ~(cost.abs() < LARGEST_COST), target_mask[:, None])
        query_of_box = _enumerate(cost, target_mask) if _is_small(queries, slots) else _hungarian(cost, target_mask)
    return Matches.of_boxes(query_of_box, queries)


def box_cost(
    predicted_boxes_cxcywh: Tensor, target_boxes_cxcywh: Tensor, *, l1_weight: float = 5.0, giou_weight: float = 2.0
) -> Tensor:
    """Return the cost of each pair, l1_weight * L1(cxcywh) - giou_weight * GIoU: (B, Q, 4), (B, M, 4) to (B, Q, M)."""
    predicted, target = at_least_float32(predicted_boxes_cxcywh), at_least_float32(target_boxes_cxcywh)
    l1 = (predicted[:, :, None] - target[:, None]).abs().sum(-1)
    return l1_weight * l1 - giou_weight * pairwise_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))


def _outweigh(cost: Tensor, bad: Tensor, counted: Tensor) -> Tensor:
    """Replace bad costs (B, Q, M) by one above all counted good costs of their image.

    That is enough: a bad query or box is bad with every partner, so an assignment that can use a good one instead is
    always cheaper. It depends on the costs of the image, so that float32 still tells these apart in a sum with it.
    """
    largest = cost.abs().masked_fill(bad | ~counted, 0).amax((1, 2), keepdim=True)
    return torch.where(bad, 2 * largest + 1, cost)


def _is_small(queries: int, slots: int) -> bool:
    few, many = sorted((queries, slots))
    assignments = 1
    for place in range(few):
        assignments *= many - place
    return queries <= MOST_QUERIES_ENUMERATED and assignments <= MOST_ASSIGNMENTS_ENUMERATED


def _enumerate(cost: Tensor, target_mask: Tensor) -> Tensor:
    """Try every assignment of the fewer side to the more numerous one; (B, Q, M) costs give the (B, M) queries."""
    batch, queries, slots = cost.shape
    real = target_mask[:, None]
    if slots <= queries:  # an absent box takes any query, for nothing
        chosen = _cheapest(torch.where(real, cost, 0).permute(2, 1, 0))
        return torch.where(target_mask, chosen.T, -1)
    # Each query takes a box; absent boxes are taken only where there are not enough real ones.
    chosen = _cheapest(_outweigh(cost, ~real.expand_as(cost), real).permute(1, 2, 0))
    query_of_box = target_mask.new_full((batch, slots), -1, dtype=torch.int64)
    query_of_box.scatter_(1, chosen.T, torch.arange(queries, device=cost.device).expand(batch, queries))
    return torch.where(target_mask, query_of_box, -1)


def _cheapest(cost: Tensor) -> Tensor:
    """Return the cheapest injective choice: (few, many, B) costs give the (few, B) index into `many` of each of few."""
    few, many, batch = cost.shape
    table, rows = _assignments(few, many, cost.device)
    costs = cost.reshape(few * many, batch)
    # `index_select`, as indexing by brackets starts all threads for these few numbers. One place after the other: equal
    # costs give bit-equal totals, so that ties always fall the same way.
    totals = costs.index_select(0, rows[0])
    for place in range(1, few):
        totals += costs.index_select(0, rows[place])
    return table.index_select(1, totals.argmin(0))


@lru_cache(maxsize=64)
def _assignments(few: int, many: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return all injective maps as columns, (few, P) int64 in lexicographic order, and their rows in flat costs."""
    with torch.inference_mode(False):  # the table outlives this call
        table = torch.tensor(list(itertools.permutations(range(many), few)), device=device).T.contiguous()
        return table, table + many * torch.arange(few, device=device)[:, None]


def _hungarian(cost: Tensor, target_mask: Tensor) -> Tensor:
    """Solve image by image on the CPU; (B, Q, M) costs give the (B, M) queries. Costs one transfer each way."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    query_of_box = np.full(target_mask.shape, -1, np.int64)
    for found, costs, real in zip(query_of_box, cost.cpu().numpy(), target_mask.cpu().numpy(), strict=True):
        slots = np.flatnonzero(real)
        rows, columns = linear_sum_assignment(costs[:, slots])
        found[slots[columns]] = rows
    return torch.from_numpy(query_of_box).to(cost.device)


def _check_shapes(predicted: Tensor, target: Tensor, mask: Tensor) -> None:
    boxes = predicted.ndim == target.ndim == 3 and predicted.shape[2] == target.shape[2] == 4
    if not boxes or len(predicted) != len(target) or mask.shape != target.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            "expected predicted boxes (B, Q, 4), target boxes (B, M, 4) and a bool mask (B, M), "
            f"got {tuple(predicted.shape)}, {tuple(target.shape)} and {mask.dtype} {tuple(mask.shape)}"
        )
