"""What a user of open_clip writes: the other side of comparisons."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from PIL import Image
from torch.nn import functional as F

BATCH = 32


@dataclass(frozen=True)
class OpenClip:
    """A model with its transform and tokenizer.

    Attributes:
        model: in eval mode.
        transform: from a picture to the model's input.
        tokenizer: from texts to tokens.
        device: of the model.
        dtype: of the model's input.
    """

    model: torch.nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
    tokenizer: Callable[[Sequence[str]], torch.Tensor]
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(cls, name: str, precision: str, device: str | torch.device = "cpu") -> OpenClip:
        """Load a model with the random weights that `Encoder.load(name, "random")` has."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, _, transform = open_clip.create_model_and_transforms(name, precision=precision, device=device)
        tokenizer = open_clip.get_tokenizer(name)
        return cls(model.eval(), transform, tokenizer, torch.device(device), open_clip.get_input_dtype(precision))

    def classifier(self, names: Sequence[str], templates: Sequence[str | Callable[[str], str]]) -> torch.Tensor:
        """Return (D, C) vectors of names by open_clip's own builder."""
        return open_clip.build_zero_shot_classifier(
            self.model, self.tokenizer, names, templates, device=self.device
        ).float()

    def vectors(self, paths: Sequence[str | bytes | Path]) -> Iterator[torch.Tensor]:
        """Yield (B, D) unit rows of image files, decoded by a DataLoader with a worker per core."""
        loader = torch.utils.data.DataLoader(
            _Photos(paths, self.transform), batch_size=BATCH, num_workers=os.cpu_count() or 1
        )
        for batch in loader:
            with torch.no_grad():
                yield F.normalize(self.model.encode_image(batch.to(self.device, self.dtype)), dim=-1).float()


class _Photos(torch.utils.data.Dataset):
    def __init__(self, paths: Sequence[str | bytes | Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(Image.open(os.fsdecode(self.paths[number])).convert("RGB"))
