"""Samples, and batches of them as the loop takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.augment import Augmented
from training.rejects import Rejects


@dataclass(frozen=True, slots=True)
class Sample:
    """A model input with its texts.

    Attributes:
        key: names the sample in messages.
        shown: pixels, caption, boxes and descriptions.
        rejects: what was left out on the way to this sample, the bad samples whose place it takes included.
    """

    key: str
    shown: Augmented
    rejects: Rejects


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
    """

    keys: list[str]
    pixels: Tensor
    captions: list[str]
    boxes_cxcywh: Tensor
    box_mask: Tensor
    descriptions: list[str]
    description_box: Tensor
    rejects: Rejects

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.keys)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        names = ("pixels", "boxes_cxcywh", "box_mask", "description_box")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def pin_memory(self) -> Batch:
        """Return the batch with its tensors in pinned memory; called by the data loader."""
        names = ("pixels", "boxes_cxcywh", "box_mask", "description_box")
        return replace(self, **{name: getattr(self, name).pin_memory() for name in names})


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
    )
