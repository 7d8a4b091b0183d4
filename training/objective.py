"""From a batch and what the model makes of it to the named terms of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from training.batch import Batch
from training.config import LossConfig
from training.losses import (
    Descriptions,
    Terms,
    box_loss,
    hash_texts,
    image_text_contrastive,
    image_text_sigmoid,
    region_description_contrastive,
    region_description_sigmoid,
    region_overlap_loss,
    region_weight_loss,
)
from training.matcher import Matches, match
from training.outputs import Outputs, Regions


def compute_terms(
    outputs: Outputs,
    batch: Batch,
    config: LossConfig,
    *,
    wanted: frozenset[str],
    log_scale: Tensor,
    bias: Tensor | None,
) -> Terms:
    """Compute the wanted terms; see `training.losses` for their values over several ranks.

    Args:
        outputs: of the batch.
        batch: with its tensors on the device of the outputs; it may have no boxes.
        config: kind of the losses, costs of the matching.
        wanted: names of terms: `image_text`, `region_description`, `box_l1`, `box_giou`, `region_weight`.
        log_scale: scalar, log of the logit scale.
        bias: scalar, for the sigmoid losses.
    """
    terms: Terms = {}
    if "image_text" in wanted:
        ids = hash_texts(batch.captions).to(outputs.images.device)
        if bias is None:
            terms |= image_text_contrastive(outputs.images, outputs.captions, ids, log_scale)
        else:
            terms |= image_text_sigmoid(outputs.images, outputs.captions, ids, log_scale, bias)
    if outputs.regions is not None and wanted - {"image_text"}:
        found = _region_terms(outputs.regions, outputs.descriptions, batch, config, wanted, log_scale, bias)
        terms |= {name: term for name, term in found.items() if name in wanted}
    return terms


def _region_terms(
    regions: Regions,
    embeddings: Tensor,
    batch: Batch,
    config: LossConfig,
    wanted: frozenset[str],
    log_scale: Tensor,
    bias: Tensor | None,
) -> Terms:
    copies = config.queries_per_box
    boxes_cxcywh = batch.boxes_cxcywh.repeat_interleave(copies, dim=1)
    box_mask = batch.box_mask.repeat_interleave(copies, dim=1)
    matches = match(
        regions.boxes_cxcywh, boxes_cxcywh, box_mask, l1_weight=config.l1_cost, giou_weight=config.giou_cost
    )
    terms: Terms = {}
    if wanted & {"box_l1", "box_giou"}:
        terms |= box_loss(regions.boxes_cxcywh, boxes_cxcywh, box_mask, matches)
    if "region_weight" in wanted:
        if config.region_target == "overlap":
            terms |= region_overlap_loss(
                regions.weight_logits, regions.boxes_cxcywh, batch.boxes_cxcywh, batch.box_mask
            )
        else:
            terms |= region_weight_loss(regions.weight_logits, matches)
    if "region_description" in wanted:
        own = first_copies(matches, copies)
        ids = hash_texts(batch.descriptions).to(embeddings.device)
        described = Descriptions(embeddings, ids, batch.description_box)
        if bias is None:
            terms |= region_description_contrastive(regions.embeddings, own, described, log_scale)
        else:
            terms |= region_description_sigmoid(regions.embeddings, own, described, log_scale, bias)
    return terms


def first_copies(matches: Matches, copies: int) -> Matches:
    """Return the matches of a batch in which every box was there several times, side by side, for the first of each.

    One query for each box is enough to learn words from: all queries become vectors in the same way, while boxes and
    weights are each query's own.
    """
    of_query = matches.box_of_query
    first = (of_query >= 0) & (of_query % copies == 0)
    return Matches(matches.query_of_box[:, ::copies], torch.where(first, of_query // copies, -1))
