"""An image tower that leads to the space which written classifiers make wider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from recognizer.encoder.decoder import DecoderInput
from recognizer.encoder.starter.text_classifiers import Written
from recognizer.encoder.towers import ImageTower, TextTower, TowerOutput


class WrittenImageTower:
    """An image tower whose vectors are in the wider space."""

    def __init__(self, tower: ImageTower, written: Written) -> None:
        """Take a tower whose tokens lead to the joint space."""
        self.inner = tower
        self._written = written
        self.dim = tower.dim + written.settings.width
        self.preprocessing = tower.preprocessing
        self.region_source = tower.region_source
        self.certain_length = tower.certain_length

    @property
    def network(self) -> nn.Module:
        """That of the inner tower."""
        return self.inner.network

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Run the trunk once; tokens are those of the inner tower."""
        given = self.decoder_input(pixels, dense=True)
        assert given.image is not None
        height, width = given.grid_hw
        grid = given.tokens[:, given.tokens.shape[1] - height * width :]
        return TowerOutput(given.image, grid.reshape(len(pixels), height, width, -1))

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """As the inner tower gives it, its image vectors in the wider space."""
        given = self.inner.decoder_input(pixels, dense=dense)
        if given.image is None or given.pooled is None:
            return given
        return replace(given, image=self._written.extend_images(given.image, given.pooled))

    def project(self, pooled: Tensor) -> Tensor:
        """(N, C) averaged tokens to (N, D + W)."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self._written.extend_images(self.inner.project(pooled), pooled)


class MappedTextTower:
    """See the module."""

    def __init__(self, tower: TextTower, lead: Callable[[Tensor], Tensor], *, dim: int) -> None:
        """Take a tower and the way on.

        Args:
            tower: whose vectors are led on.
            lead: (N, tower.dim) vectors to (N, dim).
            dim: of the other space.
        """
        self.inner = tower
        self._lead = lead
        self.dim = dim
        self.context_length = tower.context_length
        self.pad_id = tower.pad_id
        self.network = tower.network

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids as the inner tower has them."""
        return self.inner.tokenize(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Token counts as the inner tower has them."""
        return self.inner.count_tokens(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) padded token ids to (N, dim) vectors in the other space."""
        return self._lead(self.inner.forward(tokens))
