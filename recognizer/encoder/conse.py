"""The joint space of a classifier and a sentence encoder that were never trained together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recognizer.encoder.towers import TextTower


class ConSE:
    """Convex combination of semantic embeddings (Norouzi et al., ICLR 2014).

    An image is the mean of its classes' text embeddings, weighted by the classifier's softmax. Embeddings are
    centred by the mean over the classes: sentence embeddings of nouns share one large direction, which would
    otherwise make every image resemble every name.
    """

    def __init__(self, class_vectors: Tensor, *, temperature: float, top_classes: int | None) -> None:
        """Take the embeddings of the classes.

        Args:
            class_vectors: (K, D) float32 unit rows, one per class of the classifier.
            temperature: Divides the logits before the softmax; below 1 sharpens.
            top_classes: Keep only this many most probable classes; None keeps all.
        """
        self._mean = class_vectors.mean(dim=0)
        self._centred = class_vectors - self._mean
        self._temperature = temperature
        self._top_classes = top_classes

    def embed_logits(self, logits: Tensor) -> Tensor:
        """(N, K) float32 logits of the classifier to (N, D) vectors of any length."""
        probabilities = torch.softmax(logits / self._temperature, dim=-1)
        if self._top_classes is None:
            return probabilities @ self._centred
        top, classes = probabilities.topk(self._top_classes, dim=-1)
        return torch.einsum("nt,ntd->nd", top / top.sum(dim=-1, keepdim=True), self._centred[classes])

    def centre_texts(self, vectors: Tensor) -> Tensor:
        """(N, D) unit text embeddings to (N, D) vectors of any length in the joint space."""
        return vectors - self._mean


class CentredTextTower:
    """A text tower whose vectors are moved into the joint space."""

    def __init__(self, tower: TextTower, space: ConSE) -> None:
        """Take a tower of unit vectors and the space they go to."""
        self._tower = tower
        self._space = space
        self.dim = tower.dim
        self.context_length = tower.context_length
        self.pad_id = tower.pad_id

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids as the inner tower has them."""
        return self._tower.tokenize(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Token counts as the inner tower has them."""
        return self._tower.count_tokens(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) padded token ids to (N, D) vectors."""
        return self._space.centre_texts(self._tower.forward(tokens))
