"""A text tower whose vectors are led on to another space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from recognizer.encoder.towers import TextTower


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
