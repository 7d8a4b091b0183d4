"""One sample ready for training, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from recognizer.encoder.towers import Tokenize, TowerOutput
from training.data.augment import Augmented
from training.data.record import Rejects


@dataclass(frozen=True, slots=True)
class Sample:
    """A model input with its texts.

    Attributes:
        key: identifies the sample in messages.
        shown: pixels, caption, boxes and descriptions.
        rejects: counts of what was left out of this sample, and of the bad samples that it replaces.
        cached: the outputs of a frozen tower, a batch of one, if they come from a cache; the pixels are then empty.
    """

    key: str
    shown: Augmented
    rejects: Rejects
    cached: TowerOutput | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples, of which the one with most boxes has M; N descriptions in all.

    Attributes:
        keys: (B) keys of the samples.
        pixels: (B, 3, H, W) uint8, RGB.
        captions: (B) one text each.
        boxes_cxcywh: (B, M, 4) float32 centre and size, as shares of the input's width and height; 0 where there is no
            box. M is at least 1.
        box_mask: (B, M) bool, true where there is a box; the boxes of a sample come first.
        descriptions: (N) texts, at least one for every box.
        description_box: (N, 2) int64, for each description the row of its sample and of its box in the sample.
        rejects: counts of what was left out while the batch was made.
        cached: the outputs of a frozen tower, tokens in float16, if they come from a cache; pixels are then
            (B, 3, 0, 0).
        tokens: ids of captions and descriptions by text, if they were tokenised while the batch was made.
    """

    keys: list[str]
    pixels: Tensor
    captions: list[str]
    boxes_cxcywh: Tensor
    box_mask: Tensor
    descriptions: list[str]
    description_box: Tensor
    rejects: Rejects
    cached: TowerOutput | None = None
    tokens: Mapping[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.keys)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch with its tensors in pinned memory; called by the data loader."""
        return self._map(Tensor.pin_memory)

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from `start` to before `stop` as a batch, without the rejects."""
        samples = self.description_box[:, 0]
        first, last = (int((samples < edge).sum()) for edge in (start, stop))  # descriptions are sorted by sample
        return Batch(
            keys=self.keys[start:stop],
            pixels=self.pixels[start:stop],
            captions=self.captions[start:stop],
            boxes_cxcywh=self.boxes_cxcywh[start:stop],
            box_mask=self.box_mask[start:stop],
            descriptions=self.descriptions[first:last],
            description_box=self.description_box[first:last] - torch.tensor([start, 0], device=samples.device),
            rejects=Rejects(),
            cached=map_input(self.cached, lambda tensor: tensor[start:stop]),
            tokens=self.tokens,
        )

    def without_images(self) -> Batch:
        """Return the batch without pixels and tower outputs: the losses need texts and boxes alone."""
        return replace(self, pixels=self.pixels[:, :, :0, :0], cached=None)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            pixels=change(self.pixels),
            boxes_cxcywh=change(self.boxes_cxcywh),
            box_mask=change(self.box_mask),
            description_box=change(self.description_box),
            cached=map_input(self.cached, change),
        )


def map_input(inputs: TowerOutput | None, change: Callable[[Tensor], Tensor]) -> TowerOutput | None:
    """Apply a function to every tensor of a decoder input."""
    if inputs is None:
        return None
    image, pooled = (None if value is None else change(value) for value in (inputs.image, inputs.pooled))
    return TowerOutput(change(inputs.tokens), inputs.grid_hw, image, pooled)


def collate(samples: Sequence[Sample], tokenize: Tokenize | None = None) -> Batch:
    """Make a batch of at least one sample, with the tokens of its texts where there is a function that makes them."""
    most = max(1, *(len(sample.shown.descriptions) for sample in samples))
    boxes_cxcywh = torch.zeros(len(samples), most, 4)
    box_mask = torch.zeros(len(samples), most, dtype=torch.bool)
    owners: list[tuple[int, int]] = []
    descriptions: list[str] = []
    rejects = Rejects()
    for row, sample in enumerate(samples):
        count = len(sample.shown.descriptions)
        boxes_cxcywh[row, :count] = torch.from_numpy(sample.shown.boxes_cxcywh)
        box_mask[row, :count] = True
        for box, texts in enumerate(sample.shown.descriptions):
            descriptions.extend(texts)
            owners.extend([(row, box)] * len(texts))
        rejects.add(sample.rejects)
    captions = [sample.shown.caption for sample in samples]
    distinct = list(dict.fromkeys([*captions, *descriptions]))
    return Batch(
        keys=[sample.key for sample in samples],
        pixels=torch.stack([torch.from_numpy(sample.shown.pixels) for sample in samples]),
        captions=captions,
        boxes_cxcywh=boxes_cxcywh,
        box_mask=box_mask,
        descriptions=descriptions,
        description_box=torch.tensor(owners, dtype=torch.int64).reshape(-1, 2),
        rejects=rejects,
        cached=_stack([sample.cached for sample in samples if sample.cached is not None]),
        tokens=dict(zip(distinct, tokenize(distinct), strict=True)) if tokenize else {},
    )


def _stack(inputs: Sequence[TowerOutput]) -> TowerOutput | None:
    if not inputs:
        return None
    tokens, images, pooled = (
        [getattr(one, name) for one in inputs if getattr(one, name) is not None]
        for name in ("tokens", "image", "pooled")
    )
    image, whole = (torch.cat(parts) if parts else None for parts in (images, pooled))
    return TowerOutput(torch.cat(tokens), inputs[0].grid_hw, image, whole)
