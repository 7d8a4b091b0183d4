"""Compute the loss terms of one batch: L = w_ic L_ic + w_box L_box + w_rd L_rd (GRAIN, arXiv 2412.04429).

The batch is the global one: candidates come from all ranks, and averages count the items of all ranks. The rows that
the contrastive losses compare across ranks are gathered here, once; the losses are pure functions
(`training.contrastive`, `training.box_losses`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recognizer.encoder.decoder import DecoderOutput
from training.box_losses import box_loss, region_overlap_loss, region_weight_loss
from training.config import LossConfig
from training.contrastive import (
    DescribedRegions,
    hash_texts,
    image_text_contrastive,
    image_text_sigmoid,
    region_description_contrastive,
    region_description_sigmoid,
)
from training.data.batch import Batch
from training.distributed import RankRows, RankSum, average_over_ranks
from training.matcher import Matches, match
from training.model import ModelOutput

Terms = dict[str, Tensor]
"""Scalars by name, each to be given a weight."""

Shares = dict[str, tuple[RankSum, ...]]
"""By term, the averages whose mean it is: two for the two directions of InfoNCE, else one."""


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the terms, a scalar.

    Raises:
        ValueError: a term has no weight, a weight has no term, or there are none at all.
    """
    unknown, unused = sorted(terms.keys() - weights.keys()), sorted(weights.keys() - terms.keys())
    if unknown or unused or not terms:
        raise ValueError(f"each loss term needs one weight; terms without: {unknown}, weights without: {unused}")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def compute_terms(
    output: ModelOutput,
    batch: Batch,
    config: LossConfig,
    *,
    wanted: frozenset[str],
    log_scale: Tensor,
    bias: Tensor | None,
) -> Terms:
    """Compute the wanted terms; `average_over_ranks` says what their values are on several ranks.

    Args:
        output: of the batch.
        batch: with its tensors on the device of the output; it may have no boxes.
        config: costs of the matching, targets of the weights.
        wanted: names of terms: `image_text`, `region_description`, `box_l1`, `box_giou`, `region_weight`.
        log_scale: scalar, log of the logit scale.
        bias: scalar, for the sigmoid losses; None for InfoNCE.
    """
    shares: Shares = {}
    if "image_text" in wanted:
        shares |= _image_text(output, batch, log_scale, bias)
    if wanted - {"image_text"}:
        decoded = output.decoded
        copies = config.queries_per_box
        boxes_cxcywh = batch.boxes_cxcywh.repeat_interleave(copies, dim=1)
        box_mask = batch.box_mask.repeat_interleave(copies, dim=1)
        matches = match(
            decoded.boxes_cxcywh, boxes_cxcywh, box_mask, l1_weight=config.l1_cost, giou_weight=config.giou_cost
        )
        l1, overlap = box_loss(decoded.boxes_cxcywh, boxes_cxcywh, box_mask, matches)
        shares |= {"box_l1": (l1,), "box_giou": (overlap,)}
        shares |= _region_weight(decoded, batch, matches, config)
        if "region_description" in wanted:
            shares |= _region_description(output, batch, first_copies(matches, copies), log_scale, bias)
    return _average({name: parts for name, parts in shares.items() if name in wanted})


def _average(shares: Shares) -> Terms:
    averages = iter(average_over_ranks([share for parts in shares.values() for share in parts]))
    return {name: torch.stack([next(averages) for _ in parts]).mean() for name, parts in shares.items()}


def _image_text(output: ModelOutput, batch: Batch, log_scale: Tensor, bias: Tensor | None) -> Shares:
    vectors = output.decoded.image
    (places,) = RankRows.of_each(vectors)
    images, texts = places.gather(vectors), places.gather(output.captions)
    ids = places.gather(hash_texts(batch.captions).to(vectors.device, non_blocking=True))
    if bias is None:
        return {"image_text": image_text_contrastive(images, texts, ids, log_scale)}
    return {"image_text": (image_text_sigmoid(images, texts, ids, log_scale, bias),)}


def _region_description(
    output: ModelOutput, batch: Batch, matches: Matches, log_scale: Tensor, bias: Tensor | None
) -> Shares:
    texts = output.descriptions
    ids = hash_texts(batch.descriptions).to(texts.device, non_blocking=True)
    described = gather_described(output.decoded.regions, matches, texts, ids, batch.description_box)
    if bias is None:
        return {"region_description": region_description_contrastive(described, log_scale)}
    return {"region_description": (region_description_sigmoid(described, log_scale, bias),)}


def gather_described(
    regions: Tensor, matches: Matches, texts: Tensor, text_ids: Tensor, description_box: Tensor
) -> DescribedRegions:
    """Put each region at the box it is matched with, and gather regions and texts from all ranks.

    Args:
        regions: (b, Q, D) unit rows.
        matches: of these queries with the batch's boxes, (b, M) slots.
        texts: (T, D) unit rows.
        text_ids: (T,) int64 from `hash_texts`.
        description_box: (T, 2) int64, the image and the box slot in it that each text describes.
    """
    at_slots = matches.at_boxes(regions).flatten(0, 1)
    region_places, text_places = RankRows.of_each(at_slots, texts)
    image, slot = description_box.unbind(1)
    row = image * matches.matched.shape[1] + slot
    region_of_text = torch.where(matches.matched.flatten()[row], row + region_places.start, -1)
    return DescribedRegions(
        regions=region_places.gather(at_slots),
        texts=text_places.gather(texts),
        text_ids=text_places.gather(text_ids),
        region_of_text=text_places.gather(region_of_text),
    )


def _region_weight(decoded: DecoderOutput, batch: Batch, matches: Matches, config: LossConfig) -> Shares:
    if config.region_target == "overlap":
        share = region_overlap_loss(decoded.weight_logits, decoded.boxes_cxcywh, batch.boxes_cxcywh, batch.box_mask)
    else:
        share = region_weight_loss(decoded.weight_logits, matches)
    return {"region_weight": (share,)}


def first_copies(matches: Matches, copies: int) -> Matches:
    """Reduce the matches of a batch that holds every box several times, side by side, to the first copy of each.

    One query for each box is enough to learn words from: the decoder turns all queries into vectors in the same way,
    while each query has its own box and weight. Which copy a query has is a matter of rounding, since the copies cost
    the same, so the first is the one whose query has the lowest number.
    """
    queries = matches.box_of_query.shape[1]
    of_copies = matches.query_of_box.view(len(matches.query_of_box), -1, copies)
    lowest = torch.where(of_copies < 0, queries, of_copies).amin(2)
    return Matches.of_boxes(torch.where(lowest < queries, lowest, -1), queries)
