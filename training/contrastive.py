"""The contrastive losses, as pure functions: L_ic of images and captions, L_rd of regions and descriptions.

- Each function receives this rank's rows beside those of all ranks, and returns the sum over this rank's anchors with
  their number. `training.objective` gathers the rows and averages over the ranks.
- Equal texts are positives of each other, never false negatives. Their ids, from `hash_texts`, tell which are equal.
  Each positive competes with the negatives alone. A cross-entropy with the uniform distribution over the positives
  (UniCL, SupCon) would push away those above their share; for texts with equal vectors its gradient is the same as if
  they were negatives.
- Absent things (images without boxes, padding, boxes without a query) add nothing and get zero gradient. Values that
  are not finite are not hidden: they show in the term.
- Computed in float32 or wider, also under autocast. Nothing depends on the values that padding holds.

Letters: b images of this rank, B of all; R box slots, T descriptions, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor
from torch.nn import functional

from recognizer.encoder.boxes import at_least_float32
from training.distributed import RankSum, Rows

LOG_SCALE_LIMIT = math.log(100)
"""Largest log of InfoNCE's logit scale (CLIP, section 2.5); beyond it a scale gets no gradient: clamp the parameter.

The sigmoid losses have no limit: the scales of SigLIP's checkpoints lie above 100.
"""


def hash_texts(texts: Sequence[str]) -> Tensor:
    """Return (N,) int64 ids, the same on every rank: equal for texts that differ at most in case and spaces."""
    folded = (" ".join(text.casefold().split()) for text in texts)
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in folded]
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


def image_text_contrastive(images: Rows, texts: Rows, text_ids: Rows, log_scale: Tensor) -> tuple[RankSum, RankSum]:
    """Compute L_ic as InfoNCE over the global batch, with equal captions as further positives.

    Two cross-entropies over the candidates of all ranks, image to text and text to image; an anchor with several
    positives averages over them. With distinct captions it is CLIP's loss (Radford et al. 2021, figure 3).

    Args:
        images: (b, D) unit rows.
        texts: (b, D) unit rows, row i the caption of image i.
        text_ids: (b,) int64, equal for equal captions.
        log_scale: scalar, log of the logit scale; the scale is held to at most 100.

    Returns:
        Both directions.
    """
    with _no_autocast(images.own):
        scale, same = _scale(log_scale), text_ids.own[:, None] == text_ids.all
        return (
            _cross_entropy(scale * _similarity(images.own, texts.all), same),
            _cross_entropy(scale * _similarity(texts.own, images.all), same),
        )


def image_text_sigmoid(images: Rows, texts: Rows, text_ids: Rows, log_scale: Tensor, bias: Tensor) -> RankSum:
    """Compute L_ic as pairwise sigmoid loss: each image-text pair of the global batch is a yes-or-no question.

    The sum over all B x B pairs of -log sigmoid(z (scale <x, y> + bias)), z = 1 for equal captions, else -1, counted by
    images (SigLIP, Zhai et al. 2023, algorithm 1; it starts from log_scale = log 10 and bias = -10).

    Args:
        images: (b, D) unit rows.
        texts: (b, D) unit rows, row i the caption of image i.
        text_ids: (b,) int64, equal for equal captions.
        log_scale: scalar, log of the logit scale.
        bias: scalar, added to every logit.
    """
    with _no_autocast(images.own):
        logits = at_least_float32(log_scale).exp() * _similarity(images.own, texts.all) + bias
        return _pairwise_sigmoid(logits, text_ids.own[:, None] == text_ids.all)


@dataclass(frozen=True, slots=True)
class DescribedRegions:
    """Regions and the texts that describe them; a region may have several texts, or none.

    Attributes:
        regions: (R, D) unit rows, one for each box slot; where the slot has no matched box, anything.
        texts: (T, D) unit rows.
        text_ids: (T,) int64 from `hash_texts`.
        region_of_text: (T,) int64, the row among all regions that each text describes; -1 for a text whose box no query
            found: it is only a candidate.
    """

    regions: Rows
    texts: Rows
    text_ids: Rows
    region_of_text: Rows

    def positives(self) -> _Positives:
        """Tell which texts and regions belong together."""
        regions, texts, region_of_text = self.regions, self.texts, self.region_of_text
        first_of = _first_of(self.text_ids.all)
        own_first = first_of[texts.start : texts.start + len(texts.own)]
        text_row = first_of - texts.start  # of each text's representative among this rank's texts, if it is one of them
        is_own = (text_row >= 0) & (text_row < len(texts.own)) & (region_of_text.all >= 0)
        shape = len(texts.own), len(regions.all)
        return _Positives(
            texts_of_region=_incidence(
                region_of_text.own - regions.start,
                own_first,
                region_of_text.own >= 0,
                (len(regions.own), len(texts.all)),
            ),
            distinct=first_of == torch.arange(len(first_of), device=first_of.device),
            regions_of_text=_incidence(text_row, region_of_text.all, is_own, shape),
            described=_members(region_of_text.all, region_of_text.all >= 0, len(regions.all)),
        )


@dataclass(frozen=True, slots=True)
class _Positives:
    """Which texts and regions belong together. Equal texts are represented by the first of them in rank order.

    Attributes:
        texts_of_region: (own R, all T) bool, in columns of first texts only.
        distinct: (all T,) bool, the first of equal texts.
        regions_of_text: (own T, all R) bool, in rows of first texts only.
        described: (all R,) bool, regions that some text describes.
    """

    texts_of_region: Tensor
    distinct: Tensor
    regions_of_text: Tensor
    described: Tensor


def region_description_contrastive(described: DescribedRegions, log_scale: Tensor) -> tuple[RankSum, RankSum]:
    """Compute L_rd as InfoNCE between the regions matched with boxes and the descriptions of the boxes.

    All descriptions of a region's box are its positives. Equal texts are one target, however often they occur and on
    whatever rank. Region to text: each described region against all distinct texts. Text to region: each distinct text
    that describes a region against all described regions.

    Args:
        described: regions and texts.
        log_scale: scalar, log of the logit scale; the scale is held to at most 100.

    Returns:
        Both directions.
    """
    with _no_autocast(described.regions.own):
        regions, texts, scale = described.regions, described.texts, _scale(log_scale)
        positives = described.positives()
        to_text, to_region = _similarity(regions.own, texts.all), _similarity(texts.own, regions.all)
        return (
            _cross_entropy(scale * to_text, positives.texts_of_region, positives.distinct),
            _cross_entropy(scale * to_region, positives.regions_of_text, positives.described),
        )


def region_description_sigmoid(described: DescribedRegions, log_scale: Tensor, bias: Tensor) -> RankSum:
    """Compute L_rd as pairwise sigmoid loss over all described regions and distinct texts, counted by regions.

    Regions, texts and positives are those of `region_description_contrastive`.

    Args:
        described: regions and texts.
        log_scale: scalar, log of the logit scale.
        bias: scalar, added to every logit.
    """
    with _no_autocast(described.regions.own):
        positives = described.positives()
        logits = at_least_float32(log_scale).exp() * _similarity(described.regions.own, described.texts.all) + bias
        return _pairwise_sigmoid(logits, positives.texts_of_region, positives.distinct)


def _first_of(ids: Tensor) -> Tensor:
    """Return (N,) for each of the (N,) ids the lowest place that holds the same; without waiting for the device."""
    ordered, places = ids.sort(stable=True)
    if not len(ids):
        return places
    position = torch.arange(len(ids), device=ids.device)
    # The stable sort puts the first place of each id at the start of its run; `cummax` carries it through the run.
    starts = torch.cat([position[:1] == 0, ordered[1:] != ordered[:-1]])
    run = torch.where(starts, position, 0).cummax(0).values
    return torch.empty_like(places).scatter_(0, places, places[run])


def _incidence(rows: Tensor, columns: Tensor, keep: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a bool matrix that is true at the kept (row, column) pairs, repeated or not."""
    # The others go to one more row, which is cut off: selecting by a mask would wait for the device.
    matrix = keep.new_zeros((shape[0] + 1, shape[1]))
    matrix[torch.where(keep, rows, shape[0]), columns.clamp(min=0)] = True
    return matrix[:-1]


def _members(places: Tensor, keep: Tensor, count: int) -> Tensor:
    """Return (count,) bool, true at the kept places."""
    return _incidence(places, torch.zeros_like(places), keep, (count, 1))[:, 0]


def _cross_entropy(logits: Tensor, positive: Tensor, candidate: Tensor | None = None) -> RankSum:
    """Sum over the rows their mean over the positives p of -log(exp(l_p) / (exp(l_p) + sum over negatives exp(l_n))).

    Args:
        logits: (N, C).
        positive: (N, C) bool.
        candidate: (C,) bool, the columns that are negatives where they are not positives; None: all columns.

    Returns:
        The sum over the rows that have positives, and their number.
    """
    excluded = positive if candidate is None else positive | ~candidate
    negatives = logits.masked_fill(excluded, -torch.inf).logsumexp(1, keepdim=True)
    losses = torch.where(positive, functional.softplus(negatives - logits), 0)
    means = losses.sum(1) / positive.sum(1).clamp(min=1)
    return RankSum(means.sum(), positive.any(1).sum())


def _pairwise_sigmoid(logits: Tensor, positive: Tensor, candidate: Tensor | None = None) -> RankSum:
    """Sum -log sigmoid(z logits), z = 1 at the positives, else -1, over rows with positives and candidate columns.

    Args:
        logits: (N, C).
        positive: (N, C) bool.
        candidate: (C,) bool; None: all columns.

    Returns:
        The sum, and the number of rows that have positives.
    """
    rows = positive.any(1)
    counted = rows[:, None] if candidate is None else rows[:, None] & candidate
    losses = functional.softplus(torch.where(positive, -logits, logits))
    return RankSum(torch.where(counted, losses, 0).sum(), rows.sum())


def _similarity(rows: Tensor, candidates: Tensor) -> Tensor:
    return at_least_float32(rows) @ at_least_float32(candidates).T


def _scale(log_scale: Tensor) -> Tensor:
    return at_least_float32(log_scale).clamp(max=LOG_SCALE_LIMIT).exp()


def _no_autocast(values: Tensor) -> torch.autocast:
    return torch.autocast(values.device.type, enabled=False)
