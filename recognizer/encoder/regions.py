"""What an encoder computes of a batch of images: a vector of each image, and the vectors of its regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.boxes import cxcywh_to_xyxy, vote_boxes
from recognizer.encoder.decoder import GroundingDecoder
from recognizer.encoder.device import autocast
from recognizer.encoder.towers import ImageTower, TowerOutput
from recognizer.encoder.windows import WindowSettings, regions_from_crops, regions_from_tokens

# A region's box votes with this power of the region's weight. On the development fold 2 to 8 differ by 0.007 in
# overlap.
_VOTE_SHARPNESS = 8


class Regions(NamedTuple):
    """B images with Q regions each, in a joint space of D dimensions.

    Attributes:
        image: (B, D) float32 unit rows.
        regions: (B, Q, D) float32 unit rows.
        boxes_xyxy: (B, Q, 4) float32 in pixels of the model input.
        weight: (B, Q) float32 from 0 to 1, how much there is to see.
    """

    image: Tensor
    regions: Tensor
    boxes_xyxy: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class RegionFinder:
    """Finds regions with torch.

    Attributes:
        tower: Runs first.
        decoder: Finds the regions in what the tower returns; None: the regions are fixed windows.
        windows: Those windows.
        bf16: Whether the decoder runs under bf16 autocast.
    """

    tower: ImageTower
    decoder: GroundingDecoder | None
    windows: WindowSettings
    bf16: bool

    def find(self, pixels: Tensor) -> list[Regions]:
        """Find the regions of (B, 3, H, W) uint8 pixels, in one pass of the tower; returns parts of the batch in order.

        On the CPU what follows the tower is done for each image alone (`recognizer.encoder.passes` says why).
        """
        normalized = self.tower.preprocessing.normalize(pixels)
        output = self.read(normalized)
        size = 1 if pixels.device.type == "cpu" else len(pixels)
        parts = [slice(start, start + size) for start in range(0, len(pixels), size)]
        return [self.regions_of(normalized[part], output.take(part)) for part in parts]

    def read(self, normalized: Tensor) -> TowerOutput:
        """Run the tower for what `regions_of` reads; the pixels are (B, 3, H, W) normalised float32."""
        return self.tower.forward(normalized) if self.decoder is None else self.decoder.read(self.tower, normalized)

    def regions_of(self, normalized: Tensor, output: TowerOutput) -> Regions:
        """Find the regions of images in the output of `read`."""
        if self.decoder is None:
            return self._window(normalized, output)
        return self._decode(self.decoder, normalized, output)

    def _window(self, normalized: Tensor, output: TowerOutput) -> Regions:
        tower = self.tower
        if output.tokens.shape[1]:
            vectors, boxes = regions_from_tokens(tower, output, self.windows)
        else:
            vectors, boxes = regions_from_crops(tower, normalized)
        vectors = vectors.float()
        weight = vectors.new_ones(vectors.shape[:2])
        if tower.full_weight_length > 0:
            weight = (vectors.norm(dim=-1) / tower.full_weight_length).clamp(max=1)
        return Regions(
            image=F.normalize(output.image_vectors().float(), dim=-1),
            regions=F.normalize(vectors, dim=-1),
            boxes_xyxy=torch.from_numpy(boxes).to(vectors.device).expand(vectors.shape[0], -1, -1),
            weight=weight,
        )

    def _decode(self, decoder: GroundingDecoder, normalized: Tensor, output: TowerOutput) -> Regions:
        settings = decoder.settings
        with autocast(normalized.device, enabled=self.bf16):
            decoded = decoder(output)
        # Shifting the logit by that of `counts_from` makes a weight of `counts_from` 0.5.
        shift = math.log(settings.counts_from / (1 - settings.counts_from))
        shares = cxcywh_to_xyxy(decoded.boxes_cxcywh).clamp(0, 1)
        if settings.vote_overlap is not None:
            trust = decoded.weight_logits.sigmoid() ** _VOTE_SHARPNESS
            shares = vote_boxes(shares, trust, settings.vote_overlap)
        height, width = normalized.shape[2:]
        return Regions(
            image=decoded.image,
            regions=decoded.regions,
            boxes_xyxy=shares * shares.new_tensor([width, height, width, height]),
            weight=(decoded.weight_logits - shift).sigmoid(),
        )
