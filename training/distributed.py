"""The ranks of a training run: how many there are, what they gather and add.

One process without any set-up is rank 0 of 1. The gather carries gradients, so that a loss over the global batch
teaches every rank's embeddings. Ranks may hold different numbers of rows, or none. Every rank must make the same calls
in the same order, whatever it holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from recognizer.encoder.device import choose_device


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


_LONGEST_WAIT = timedelta(hours=4)  # the others wait while rank 0 fills the token cache or evaluates


@contextmanager
def joined_processes(device: str) -> Iterator[torch.device]:
    """Join the process group that the environment describes, if it describes one, and leave it in the end.

    Args:
        device: as `Encoder.load` takes it; of several processes on CUDA each takes the device of its local rank.

    Yields:
        This process's device.

    Raises:
        recognizer.encoder.errors.EncoderError: the device does not exist here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield choose_device(device)
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield chosen
    finally:
        dist.destroy_process_group()


def gather_bytes(own: bytes, device: torch.device) -> list[bytes]:
    """Return what every rank gives, in rank order, on every rank."""
    rows = torch.frombuffer(bytearray(own), dtype=torch.uint8).to(device)
    places = RankRows.of(rows)
    gathered: Tensor = places.gather(rows).cpu()
    return [bytes(part.numpy()) for part in torch.split(gathered, list(places.counts))]


def wait_for_all() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier()


@dataclass(frozen=True, slots=True)
class RandomState:
    """Of the CPU and of one CUDA device.

    Attributes:
        cpu: uint8, as torch gives it.
        cuda: likewise; None on the CPU.
    """

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """Keep the present state."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda)

    def restore(self, device: torch.device) -> None:
        """Go back to this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the states by name."""
        return {"cpu": self.cpu} | ({} if self.cuda is None else {"cuda": self.cuda})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> RandomState:
        """Undo `tensors`."""
        return cls(tensors["cpu"], tensors.get("cuda"))
