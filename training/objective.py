"""From a batch and what the model makes of it to the named terms of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import LossConfig
from training.data.batch import Batch
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
from training.model import Outputs, Regions


@dataclass(frozen=True, slots=True)
class Contrast:
    """The kind of the contrastive terms: InfoNCE, or sigmoid losses where there is a bias."""

    log_scale: Tensor
    bias: Tensor | None

    def of_captions(self, images: Tensor, captions: Tensor, ids: Tensor) -> Terms:
        """Contrast images with captions."""
        if self.bias is None:
            return image_text_contrastive(images, captions, ids, self.log_scale)
        return image_text_sigmoid(images, captions, ids, self.log_scale, self.bias)

    def of_regions(self, regions: Tensor, matches: Matches, descriptions: Descriptions) -> Terms:
        """Contrast matched regions with descriptions."""
        if self.bias is None:
            return region_description_contrastive(regions, matches, descriptions, self.log_scale)
        return region_description_sigmoid(regions, matches, descriptions, self.log_scale, self.bias)


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
    contrast = Contrast(log_scale, bias)
    if "image_text" in wanted:
        ids = hash_texts(batch.captions).to(outputs.images.device)
        terms |= contrast.of_captions(outputs.images, outputs.captions, ids)
    if outputs.regions is not None and wanted - {"image_text"}:
        found = _region_terms(outputs.regions, outputs.descriptions, batch, config, wanted, contrast)
        terms |= {name: term for name, term in found.items() if name in wanted}
    return terms


def _region_terms(
    regions: Regions,
    embeddings: Tensor,
    batch: Batch,
    config: LossConfig,
    wanted: frozenset[str],
    contrast: Contrast,
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
        terms |= contrast.of_regions(regions.embeddings, own, Descriptions(embeddings, ids, batch.description_box))
    return terms


def first_copies(matches: Matches, copies: int) -> Matches:
    """Return the matches of a batch in which every box was there several times, side by side, for the first of each.

    One query for each box is enough to learn words from: all queries become vectors in the same way, while boxes and
    weights are each query's own.
    """
    of_query = matches.box_of_query
    first = (of_query >= 0) & (of_query % copies == 0)
    return Matches(matches.query_of_box[:, ::copies], torch.where(first, of_query // copies, -1))
