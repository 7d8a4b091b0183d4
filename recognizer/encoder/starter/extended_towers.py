"""Towers whose vectors are mapped onwards: by text classifiers, or from a sentence encoder to the class space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from recognizer.encoder.starter.text_classifiers import TextClassifiers
from recognizer.encoder.towers import ImageTower, TextTower, Tokenize, TowerOutput


class ExtendedImageTower:
    """An image tower in the joint space that text classifiers extend."""

    def __init__(self, tower: ImageTower, classifiers: TextClassifiers) -> None:
        """Take a tower whose tokens can be projected, and the classifiers over them."""
        self.inner = tower
        self._classifiers = classifiers
        self.dim = tower.dim + classifiers.settings.width
        self.preprocessing = tower.preprocessing
        self.region_source = tower.region_source
        self.full_weight_length = tower.full_weight_length
        self.token_shape = tower.token_shape
        self.obeys_checkpointing = tower.obeys_checkpointing

    @property
    def network(self) -> nn.Module:
        """The network of the inner tower."""
        return self.inner.network

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Run the trunk once; the tokens are those of the inner tower."""
        output = self.inner.forward(pixels)
        if output.pooled is None:
            raise ValueError(f"{type(self.network).__name__} gives no tokens for text classifiers")
        return replace(output, image=self._classifiers.extend_images(output.image_vectors(), output.pooled))

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """The final tokens of the inner tower."""
        return self.inner.final_tokens(pixels)

    def project(self, pooled: Tensor) -> Tensor:
        """(N, C) averaged tokens to (N, D + W)."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self._classifiers.extend_images(self.inner.project(pooled), pooled)


class MappedTextTower:
    """A text tower whose vectors are mapped into another space."""

    def __init__(self, tower: TextTower, mapping: Callable[[Tensor], Tensor], *, dim: int) -> None:
        """Take a tower and the mapping.

        Args:
            tower: Encodes the texts.
            mapping: (N, tower.dim) vectors to (N, dim).
            dim: Dimensions of the other space.
        """
        self.inner = tower
        self._mapping = mapping
        self.dim = dim
        self.context_length = tower.context_length
        self.pad_id = tower.pad_id
        self.network = tower.network

    @property
    def tokenize(self) -> Tokenize:
        """The tokenizer of the inner tower, which may be read at the first text."""
        return self.inner.tokenize

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Token counts from the inner tower."""
        return self.inner.count_tokens(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) padded token ids to (N, dim) vectors in the other space."""
        return self._mapping(self.inner.forward(tokens))
