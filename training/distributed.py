"""The ranks of a training run: how many there are, what they gather and add.

One process without any set-up is rank 0 of 1. The gather carries gradients, so that a loss over the global batch
teaches every rank's embeddings. Ranks may hold different numbers of rows, or none. Every rank must make the same calls
in the same order, whatever it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_distributed() else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over the ranks, of any shape and on every rank alike; without gradient, the input untouched."""
    total = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


@dataclass(frozen=True, slots=True)
class RankRows:
    """How the rows of a global batch lie on the ranks, in rank order.

    Attributes:
        counts: rows of each rank.
        rank: this process.
    """

    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, rows: Tensor) -> RankRows:
        """Ask every rank for its number of rows, `len(rows)`; with several ranks this waits for the device."""
        if world_size() == 1:
            return cls((len(rows),), 0)
        own = torch.tensor([len(rows)], device=rows.device)
        counts = own.new_empty(world_size())
        dist.all_gather_into_tensor(counts, own)
        return cls(tuple(counts.tolist()), rank())

    @property
    def total(self) -> int:
        """Rows of all ranks together."""
        return sum(self.counts)

    @property
    def own(self) -> slice:
        """This rank's place among the gathered rows."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks, with gradient.

        The gradient that reaches a rank's rows is the sum of what all ranks send to them.

        Args:
            rows: (counts[rank], ...) of any dtype, the further dimensions alike on all ranks.

        Returns:
            (total, ...) in rank order.
        """
        if len(self.counts) == 1 or not self.total:
            return rows
        most = max(self.counts)
        padding = rows.new_zeros((most - len(rows), *rows.shape[1:]))
        gathered: Tensor = _AllGather.apply(torch.cat([rows, padding]))
        if min(self.counts) == most:
            return gathered
        real = [place * most + row for place, count in enumerate(self.counts) for row in range(count)]
        return gathered[torch.tensor(real, device=rows.device)]


class _AllGather(torch.autograd.Function):
    """Gather equally many rows from each rank; backward adds what the ranks say about each row and returns our part."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        """Return (W n, ...) from (n, ...) on each rank."""
        gathered = rows.new_empty((world_size() * len(rows), *rows.shape[1:]))
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        """Return (n, ...), the sum over the ranks of their gradients of our rows."""
        own = gradient.new_empty((len(gradient) // world_size(), *gradient.shape[1:]))
        dist.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
