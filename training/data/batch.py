"""Samples, and batches of them as the loop takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recognizer.encoder.towers import TowerOutput
from training.data.augment import Augmented
from training.data.record import Rejects


@dataclass(frozen=True, slots=True)
class Sample:
    """A model input with its texts.

    Attributes:
        key: names the sample in messages.
        shown: pixels, caption, boxes and descriptions.
        rejects: what was left out on the way to this sample, the bad samples whose place it takes included.
        given: what a frozen tower makes of it, a batch of one, if that is known; the pixels are then empty.
    """

    key: str
    shown: Augmented
    rejects: Rejects
    given: TowerOutput | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples, of which the one with most boxes has M; N descriptions in all.

    Attributes:
        keys: (B) names of the samples.
        pixels: (B, 3, H, W) uint8, RGB.
        captions: (B) one text each.
        boxes_cxcywh: (B, M, 4) float32 centre and size, as shares of the input's width and height; 0 where there is no
            box. M is at least 1.
        box_mask: (B, M) bool, where there is a box; the boxes of a sample come first.
        descriptions: (N) texts, of every box at least one.
        description_box: (N, 2) int64, the sample and the box in it that each description is of.
        rejects: what was left out while the batch was made.
        given: what a frozen tower makes of the samples, tokens in float16, if that is known; pixels are then (B, 3, 0,
            0).
    """

    keys: list[str]
    pixels: Tensor
    captions: list[str]
    boxes_cxcywh: Tensor
    box_mask: Tensor
    descriptions: list[str]
    description_box: Tensor
    rejects: Rejects
    given: TowerOutput | None = None

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.keys)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._apply(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch with its tensors in pinned memory; called by the data loader."""
        return self._apply(Tensor.pin_memory)

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from `start` to before `stop` as a batch of their own, without the rejects."""
        samples = self.description_box[:, 0]
        first, last = (int((samples < edge).sum()) for edge in (start, stop))
        return Batch(
            keys=self.keys[start:stop],
            pixels=self.pixels[start:stop],
            captions=self.captions[start:stop],
            boxes_cxcywh=self.boxes_cxcywh[start:stop],
            box_mask=self.box_mask[start:stop],
            descriptions=self.descriptions[first:last],
            description_box=self.description_box[first:last] - torch.tensor([start, 0], device=samples.device),
            rejects=Rejects(),
            given=map_input(self.given, lambda tensor: tensor[start:stop]),
        )

    def without_images(self) -> Batch:
        """Return the batch as the losses need it: texts and boxes."""
        return replace(self, pixels=self.pixels[:, :, :0, :0], given=None)

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            pixels=change(self.pixels),
            boxes_cxcywh=change(self.boxes_cxcywh),
            box_mask=change(self.box_mask),
            description_box=change(self.description_box),
            given=map_input(self.given, change),
        )


def map_input(given: TowerOutput | None, change: Callable[[Tensor], Tensor]) -> TowerOutput | None:
    """Apply a function to every tensor of a decoder input."""
    if given is None:
        return None
    image, pooled = (None if value is None else change(value) for value in (given.image, given.pooled))
    return TowerOutput(change(given.tokens), given.grid_hw, image, pooled)


def collate(samples: Sequence[Sample]) -> Batch:
    """Make one batch of at least one sample."""
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
    return Batch(
        keys=[sample.key for sample in samples],
        pixels=torch.stack([torch.from_numpy(sample.shown.pixels) for sample in samples]),
        captions=[sample.shown.caption for sample in samples],
        boxes_cxcywh=boxes_cxcywh,
        box_mask=box_mask,
        descriptions=descriptions,
        description_box=torch.tensor(owners, dtype=torch.int64).reshape(-1, 2),
        rejects=rejects,
        given=_stack([sample.given for sample in samples if sample.given is not None]),
    )


def _stack(given: Sequence[TowerOutput]) -> TowerOutput | None:
    if not given:
        return None
    tokens, images, pooled = (
        [getattr(one, name) for one in given if getattr(one, name) is not None]
        for name in ("tokens", "image", "pooled")
    )
    image, whole = (torch.cat(parts) if parts else None for parts in (images, pooled))
    return TowerOutput(torch.cat(tokens), given[0].grid_hw, image, whole)
