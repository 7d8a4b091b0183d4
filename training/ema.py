"""Averaged weights, which are the result of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Ema:
    """An exponential moving average: after every step, average = d * average + (1 - d) * weights.

    After t steps d is min(decay, (1 + t) / (10 + t)), so that a short run is not an average of its random start.

    Attributes:
        average: by the names of the weights, float32; starts as a copy of them.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Start from the weights as they are."""
        self.average = {name: value.detach().clone() for name, value in weights.items()}
        self._weights, self._decay = weights, decay

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take the weights in that `steps` finished steps have made."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for name, value in self._weights.items():
            self.average[name].lerp_(value, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average where the weights are, for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._weights.items():
            kept = value.detach().clone()
            value.copy_(self.average[name])
            self.average[name].copy_(kept)
