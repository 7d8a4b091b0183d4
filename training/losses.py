"""The training losses: pure functions from tensors to named terms, and the one line that weighs them.

L = w_ic L_ic + w_box L_box + w_rd L_rd (GRAIN, arXiv 2412.04429), with these rules throughout:

- The batch is the global one. Embeddings and texts of all ranks are candidates; averages divide by counts of all ranks.
  A term on one rank is that rank's share times the number of ranks, so its **mean over the ranks is the term of the
  whole batch**, and DistributedDataParallel, which averages gradients, gives the whole batch's gradient.
- Equal texts are positives of each other, never false negatives. Their ids, from `hash_texts`, say which are equal. In
  the contrastive terms each positive competes with the negatives alone: a cross-entropy with the uniform distribution
  over the positives (UniCL, SupCon) would push away the ones above their share, and for texts with equal vectors its
  gradient is the very one of taking them for negatives.
- What is not there (images without boxes, padding, boxes no query found) adds nothing and gets zero gradient; a batch
  without boxes has the value 0. Values that are not finite are not hidden: they show in the term.
- float32 or wider, also under autocast. Nothing depends on the values held by padding.

Letters: b images of this rank, B of all; Q queries, M box slots per image, T descriptions, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor
from torch.nn import functional

from recognizer.encoder.boxes import at_least_float32, cxcywh_to_xyxy, giou, pairwise_iou
from training.distributed import RankRows, all_reduce_sum, world_size
from training.matcher import Matches

LOG_SCALE_LIMIT = math.log(100)
"""Largest log of the logit scale (CLIP, section 2.5). Beyond it a scale gets no gradient: clamp the parameter too."""

Terms = dict[str, Tensor]
"""Scalars by name, each to be given a weight."""


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the terms, a scalar.

    Raises:
        ValueError: a term has no weight, a weight has no term, or there are none at all.
    """
    unknown, unused = sorted(terms.keys() - weights.keys()), sorted(weights.keys() - terms.keys())
    if unknown or unused or not terms:
        raise ValueError(f"each loss term needs one weight; terms without: {unknown}, weights without: {unused}")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def hash_texts(texts: Sequence[str]) -> Tensor:
    """Return (N,) int64 ids, the same on every rank: equal for texts that differ at most in case and spaces."""
    folded = (" ".join(text.casefold().split()) for text in texts)
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in folded]
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class Descriptions:
    """The T texts that describe boxes on this rank; a box may have several, or none.

    Attributes:
        embeddings: (T, D) unit rows.
        text_ids: (T,) int64 from `hash_texts`.
        description_box: (T, 2) int64, the image in the batch and the box slot in it that each text is of.
    """

    embeddings: Tensor
    text_ids: Tensor
    description_box: Tensor


def image_text_contrastive(
    image_embeddings: Tensor, text_embeddings: Tensor, text_ids: Tensor, log_scale: Tensor
) -> Terms:
    """Compute L_ic: symmetric InfoNCE over the global batch, with equal captions as further positives.

    The mean of two cross-entropies over the candidates of all ranks, image to text and text to image; an anchor with
    several positives averages over them. With distinct captions it is CLIP's loss (Radford et al. 2021, figure 3).

    Args:
        image_embeddings: (b, D) unit rows.
        text_embeddings: (b, D) unit rows, row i the caption of image i.
        text_ids: (b,) int64, equal for equal captions.
        log_scale: scalar, log of the logit scale; the scale is held to at most 100.

    Returns:
        `image_text`.
    """
    with _no_autocast(image_embeddings):
        images, texts, scale = at_least_float32(image_embeddings), at_least_float32(text_embeddings), _scale(log_scale)
        rows = RankRows.of(images)
        same = text_ids[:, None] == rows.gather(text_ids)
        to_text = _cross_entropy(scale * images @ rows.gather(texts).T, same)
        to_image = _cross_entropy(scale * texts @ rows.gather(images).T, same)
        return {"image_text": _share(to_text.sum() + to_image.sum(), 2 * rows.total)}


def image_text_sigmoid(
    image_embeddings: Tensor, text_embeddings: Tensor, text_ids: Tensor, log_scale: Tensor, bias: Tensor
) -> Terms:
    """Compute L_ic as pairwise sigmoid loss: each image-text pair of the global batch is a yes-or-no question.

    The sum over all B x B pairs of -log sigmoid(z (scale <x, y> + bias)), z = 1 for equal captions, else -1, divided by
    B (SigLIP, Zhai et al. 2023, algorithm 1; it starts from log_scale = log 10 and bias = -10).

    Args:
        image_embeddings: (b, D) unit rows.
        text_embeddings: (b, D) unit rows, row i the caption of image i.
        text_ids: (b,) int64, equal for equal captions.
        log_scale: scalar, log of the logit scale; the scale is held to at most 100.
        bias: scalar, added to every logit.

    Returns:
        `image_text`.
    """
    with _no_autocast(image_embeddings):
        images, texts = at_least_float32(image_embeddings), at_least_float32(text_embeddings)
        rows = RankRows.of(images)
        same = text_ids[:, None] == rows.gather(text_ids)
        logits = _scale(log_scale) * images @ rows.gather(texts).T + bias
        return {"image_text": _share(_sigmoid_losses(logits, same).sum(), rows.total)}


def region_description_contrastive(
    region_embeddings: Tensor, matches: Matches, descriptions: Descriptions, log_scale: Tensor
) -> Terms:
    """Compute L_rd: InfoNCE between the regions found for boxes and the descriptions of the boxes, both directions.

    A region is the query matched to a box that is described; all descriptions of the box are its positives. Equal texts
    are one target, however often they occur and on whatever rank. Region to text: each region against all distinct
    texts. Text to region: each distinct text that describes a region against all regions. The term is the mean of the
    two directions, each averaged over its anchors. Texts of boxes that no query found are only candidates.

    Args:
        region_embeddings: (b, Q, D) unit rows.
        matches: of these queries with the batch's boxes.
        descriptions: of the boxes.
        log_scale: scalar, log of the logit scale; the scale is held to at most 100.

    Returns:
        `region_description`.
    """
    with _no_autocast(region_embeddings):
        pairs, scale = _pair(region_embeddings, matches, descriptions), _scale(log_scale)
        to_text = _cross_entropy(
            scale * pairs.regions @ pairs.all_texts.T, pairs.region_has_text, pairs.all_texts_distinct
        )
        to_region = _cross_entropy(
            scale * pairs.texts @ pairs.all_regions.T, pairs.text_has_region(), pairs.all_regions_described
        )
        term = _share(to_text.sum(), pairs.count_regions()) + _share(to_region.sum(), pairs.count_texts())
        return {"region_description": term / 2}


def region_description_sigmoid(
    region_embeddings: Tensor, matches: Matches, descriptions: Descriptions, log_scale: Tensor, bias: Tensor
) -> Terms:
    """Compute L_rd as pairwise sigmoid loss over all described regions and distinct texts, divided by the regions.

    Args:
        region_embeddings: (b, Q, D) unit rows.
        matches: of these queries with the batch's boxes.
        descriptions: of the boxes.
        log_scale: scalar, log of the logit scale; the scale is held to at most 100.
        bias: scalar, added to every logit.

    Returns:
        `region_description`; regions, texts and positives as in `region_description_contrastive`.
    """
    with _no_autocast(region_embeddings):
        pairs = _pair(region_embeddings, matches, descriptions)
        losses = _sigmoid_losses(_scale(log_scale) * pairs.regions @ pairs.all_texts.T + bias, pairs.region_has_text)
        counted = pairs.region_has_text.any(1, keepdim=True) & pairs.all_texts_distinct
        return {"region_description": _share(torch.where(counted, losses, 0).sum(), pairs.count_regions())}


def box_loss(
    predicted_boxes_cxcywh: Tensor, target_boxes_cxcywh: Tensor, target_mask: Tensor, matches: Matches
) -> Terms:
    """Compute L_box: L1 distance and 1 - GIoU of the matched pairs, each divided by the boxes of the global batch.

    As DETR (Carion et al. 2020, appendix A.2), with the number of boxes added up over all ranks and at least 1.

    Args:
        predicted_boxes_cxcywh: (b, Q, 4).
        target_boxes_cxcywh: (b, M, 4) in the same frame.
        target_mask: (b, M) bool, true for the boxes that are there.
        matches: of the two.

    Returns:
        `box_l1` (sum over the four numbers of cxcywh) and `box_giou`.
    """
    # A pair that is none is one box against itself: both distances and both gradients are exactly 0.
    matched = matches.matched[..., None]
    predicted = torch.where(matched, at_least_float32(matches.at_boxes(predicted_boxes_cxcywh)), 0.5)
    target = torch.where(matched, at_least_float32(target_boxes_cxcywh), 0.5)
    boxes = all_reduce_sum(target_mask.sum())
    overlap = giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
    return {"box_l1": _share((predicted - target).abs().sum(), boxes), "box_giou": _share((1 - overlap).sum(), boxes)}


def region_weight_loss(region_weight_logits: Tensor, matches: Matches) -> Terms:
    """Compute the binary cross-entropy of "this query found a box", averaged over the queries of images with boxes.

    An image without boxes does not say which of its queries found nothing: it is left out.

    Args:
        region_weight_logits: (b, Q); the sigmoid is the region's weight.
        matches: of the batch.

    Returns:
        `region_weight`.
    """
    found = matches.box_of_query >= 0
    counted = found.any(1, keepdim=True).expand_as(found)
    logits = at_least_float32(region_weight_logits)
    losses = functional.binary_cross_entropy_with_logits(logits, found.to(logits.dtype), reduction="none")
    return {"region_weight": _share(torch.where(counted, losses, 0).sum(), all_reduce_sum(counted.sum()))}


def region_overlap_loss(
    region_weight_logits: Tensor, predicted_boxes_cxcywh: Tensor, target_boxes_cxcywh: Tensor, target_mask: Tensor
) -> Terms:
    """Compute the binary cross-entropy of the weights with each query's best IoU with a box, which they then predict.

    Where several queries learn from one box, "matched" is a matter of chance among queries that are equally good, and
    says less than how well a query's box fits. Averaged over the queries of images with boxes.

    Args:
        region_weight_logits: (b, Q); the sigmoid is the region's weight.
        predicted_boxes_cxcywh: (b, Q, 4); they get no gradient.
        target_boxes_cxcywh: (b, M, 4) in the same frame.
        target_mask: (b, M) bool, true for the boxes that are there.

    Returns:
        `region_weight`.
    """
    predicted, target = cxcywh_to_xyxy(predicted_boxes_cxcywh.detach()), cxcywh_to_xyxy(target_boxes_cxcywh)
    overlaps = torch.where(target_mask[:, None], pairwise_iou(predicted, target), 0)
    counted = target_mask.any(1, keepdim=True).expand_as(region_weight_logits)
    logits = at_least_float32(region_weight_logits)
    losses = functional.binary_cross_entropy_with_logits(logits, overlaps.amax(2).to(logits.dtype), reduction="none")
    return {"region_weight": _share(torch.where(counted, losses, 0).sum(), all_reduce_sum(counted.sum()))}


@dataclass(frozen=True, slots=True)
class _Pairs:
    """This rank's regions and texts beside those of all ranks; R = b M box slots, "all" are the gathered ones.

    Texts are represented by the first of their equals in rank order: `first_of[t]` is its place.
    """

    regions: Tensor  # (R, D)
    texts: Tensor  # (T, D)
    all_regions: Tensor  # (all R, D)
    all_texts: Tensor  # (all T, D)
    all_regions_described: Tensor  # (all R,) bool: matched, and some text describes it
    all_texts_distinct: Tensor  # (all T,) bool: the first of its equals
    region_has_text: Tensor  # (R, all T) bool, columns of first texts only
    region_of_text: Tensor  # (all T,) the gathered row of the text's region, or -1
    first_of: Tensor  # (all T,)
    own_texts: slice

    def text_has_region(self) -> Tensor:
        """Return (T, all R) bool, rows of first texts only."""
        row = self.first_of - self.own_texts.start
        ours = (row >= 0) & (row < len(self.texts)) & (self.region_of_text >= 0)
        return _incidence(row, self.region_of_text, ours, (len(self.texts), len(self.all_regions)))

    def count_regions(self) -> Tensor:
        """Return the number of described regions on all ranks."""
        return self.all_regions_described.sum()

    def count_texts(self) -> Tensor:
        """Return the number of distinct texts that describe a region, on all ranks."""
        return _members(self.first_of, self.region_of_text >= 0, len(self.all_texts)).sum()


def _pair(region_embeddings: Tensor, matches: Matches, descriptions: Descriptions) -> _Pairs:
    regions = matches.at_boxes(at_least_float32(region_embeddings)).flatten(0, 1)
    texts = at_least_float32(descriptions.embeddings)
    region_rows, text_rows = RankRows.of(regions), RankRows.of(texts)
    image, slot = descriptions.description_box.unbind(1)
    region = image * matches.matched.shape[1] + slot
    matched = matches.matched.flatten()[region]
    gathered_region = torch.where(matched, region + region_rows.own.start, -1)
    ids, region_of_text = text_rows.gather(torch.stack([descriptions.text_ids, gathered_region], 1)).unbind(1)
    first_of = _first_of(ids)
    return _Pairs(
        regions=regions,
        texts=texts,
        all_regions=region_rows.gather(regions),
        all_texts=text_rows.gather(texts),
        all_regions_described=_members(region_of_text, region_of_text >= 0, region_rows.total),
        all_texts_distinct=first_of == torch.arange(len(ids), device=ids.device),
        region_has_text=_incidence(region, first_of[text_rows.own], matched, (len(regions), len(ids))),
        region_of_text=region_of_text,
        first_of=first_of,
        own_texts=text_rows.own,
    )


def _first_of(ids: Tensor) -> Tensor:
    """Return (N,) for each of the (N,) ids the lowest place that holds the same; without waiting for the device."""
    ordered, places = ids.sort(stable=True)
    if not len(ids):
        return places
    position = torch.arange(len(ids), device=ids.device)
    starts = torch.cat([position[:1] == 0, ordered[1:] != ordered[:-1]])
    run = torch.where(starts, position, 0).cummax(0).values
    return torch.empty_like(places).scatter_(0, places, places[run])


def _incidence(rows: Tensor, columns: Tensor, keep: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a bool matrix that is true at the kept (row, column) pairs, repeated or not."""
    matrix = keep.new_zeros((shape[0] + 1, shape[1]))  # the last row takes what is not kept
    matrix[torch.where(keep, rows, shape[0]), columns.clamp(min=0)] = True
    return matrix[:-1]


def _members(places: Tensor, keep: Tensor, count: int) -> Tensor:
    """Return (count,) bool, true at the kept places."""
    return _incidence(places, torch.zeros_like(places), keep, (count, 1))[:, 0]


def _cross_entropy(logits: Tensor, positive: Tensor, candidate: Tensor | None = None) -> Tensor:
    """Return each row's mean over its positives p of -log(exp(l_p) / (exp(l_p) + sum over negatives exp(l_n))).

    Args:
        logits: (N, C).
        positive: (N, C) bool.
        candidate: (C,) bool, the columns that are negatives where they are not positives; every one if not given.

    Returns:
        (N,); 0 for a row without positives.
    """
    left_out = positive if candidate is None else positive | ~candidate
    negatives = logits.masked_fill(left_out, -torch.inf).logsumexp(1, keepdim=True)
    losses = torch.where(positive, functional.softplus(negatives - logits), 0)
    return losses.sum(1) / positive.sum(1).clamp(min=1)


def _sigmoid_losses(logits: Tensor, positive: Tensor) -> Tensor:
    """Return -log sigmoid(z logits), z = 1 at the positives, else -1; all (N, C)."""
    return functional.softplus(torch.where(positive, -logits, logits))


def _share(part: Tensor, total: Tensor | int) -> Tensor:
    """Return this rank's sum over the global count, such that the mean over the ranks is the global average."""
    return part * world_size() / torch.as_tensor(total).clamp(min=1)


def _scale(log_scale: Tensor) -> Tensor:
    return at_least_float32(log_scale).clamp(max=LOG_SCALE_LIMIT).exp()


def _no_autocast(values: Tensor) -> torch.autocast:
    return torch.autocast(values.device.type, enabled=False)
