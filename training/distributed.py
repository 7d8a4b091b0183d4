"""The processes of a training run: their number, and what they gather and add.

A rank is the number of a process; without any set-up there is one, rank 0. The gather carries gradients, so that a loss
over the global batch trains every rank's embeddings. Ranks may hold different numbers of rows, or none. Every rank must
make the same calls in the same order, whatever it holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
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
class Rows:
    """Rows of this rank beside those of all ranks.

    Attributes:
        own: (n, ...) rows of this rank.
        all: (N, ...) rows of all ranks in rank order, of which those from `start` on are equal to `own`.
        start: place of the first own row among all.
    """

    own: Tensor
    all: Tensor
    start: int

    @classmethod
    def of_one_rank(cls, rows: Tensor) -> Rows:
        """Return the rows of a run of one process."""
        return cls(rows, rows, 0)


@dataclass(frozen=True, slots=True)
class RankSum:
    """This rank's share of an average over the global batch.

    Attributes:
        total: scalar, a sum over this rank's items, with gradient.
        count: scalar, the number of this rank's items.
    """

    total: Tensor
    count: Tensor


def average_over_ranks(shares: Sequence[RankSum]) -> list[Tensor]:
    """Average over the items of all ranks, in one transfer; 0 where there are none.

    Each result is this rank's sum times the number of ranks, over the items of all ranks. Its **mean over the ranks is
    the average over the global batch**, so averaging the gradients of the ranks gives the global batch's gradient.

    Returns:
        Scalars with gradient, in the order of `shares`.
    """
    counts = all_reduce_sum(torch.stack([share.count for share in shares])).clamp(min=1)
    return [share.total * world_size() / count for share, count in zip(shares, counts, strict=True)]


@dataclass(frozen=True, slots=True)
class RankRows:
    """How the rows of a global batch are distributed over the ranks, in rank order.

    Attributes:
        counts: rows of each rank.
        rank: this process.
    """

    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of_each(cls, *tensors: Tensor) -> list[RankRows]:
        """Ask every rank for its number of rows of several tensors; on the CPU, without waiting for the device."""
        if world_size() == 1:
            return [cls((len(rows),), 0) for rows in tensors]
        own = torch.tensor([len(rows) for rows in tensors])
        counts = own.new_empty(world_size() * len(tensors))
        dist.all_gather_into_tensor(counts, own)
        return [cls(tuple(column), rank()) for column in counts.view(world_size(), -1).T.tolist()]

    @property
    def total(self) -> int:
        """Rows of all ranks together."""
        return sum(self.counts)

    @property
    def start(self) -> int:
        """Place of this rank's first row among the gathered ones."""
        return sum(self.counts[: self.rank])

    def gather(self, rows: Tensor) -> Rows:
        """Gather the rows of all ranks, with gradient.

        The gradient that reaches a rank's rows is the sum of the gradients that all ranks compute for them.

        Args:
            rows: (counts[rank], ...) of any dtype, the further dimensions alike on all ranks.
        """
        if len(self.counts) == 1 or not self.total:
            return Rows(rows, rows, self.start)
        # Collectives need the same number of rows on every rank: pad, gather, and drop the padding.
        most = max(self.counts)
        padding = rows.new_zeros((most - len(rows), *rows.shape[1:]))
        gathered: Tensor = _AllGather.apply(torch.cat([rows, padding]))
        if min(self.counts) < most:
            real = [place * most + row for place, count in enumerate(self.counts) for row in range(count)]
            gathered = gathered[torch.tensor(real).to(rows.device, non_blocking=True)]
        return Rows(rows, gathered, self.start)


class _AllGather(torch.autograd.Function):
    """Gather equally many rows from each rank, with gradient.

    Every rank uses every row in its own share of the loss, so the gradient of a row is a sum over the ranks. One
    reduce-scatter adds the gradients and hands each rank those of its own rows. (The collectives of torch.distributed
    themselves have no gradient.)
    """

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        """Return (W n, ...) from (n, ...) on each rank."""
        gathered = rows.new_empty((world_size() * len(rows), *rows.shape[1:]))
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        """Return (n, ...), the sum over the ranks of their gradients of this rank's rows."""
        own = gradient.new_empty((len(gradient) // world_size(), *gradient.shape[1:]))
        dist.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


_LONGEST_WAIT = timedelta(hours=4)  # the other ranks wait while rank 0 fills the token cache or evaluates


@contextmanager
def joined_processes(device: str) -> Iterator[torch.device]:
    """Join the process group that the environment describes, if it describes one, and leave it afterwards.

    Args:
        device: as for `Encoder.load`; of several processes on CUDA each uses the device of its local rank.

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
    # gloo beside NCCL, for what the processes tell each other without waiting for their devices.
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield chosen
    finally:
        dist.destroy_process_group()


def gather_bytes(own: bytes, device: torch.device) -> list[bytes]:
    """Return the bytes of every rank, in rank order, on every rank."""
    rows = torch.frombuffer(bytearray(own), dtype=torch.uint8).to(device)
    (places,) = RankRows.of_each(rows)
    gathered = places.gather(rows).all.cpu()
    return [bytes(part.numpy()) for part in torch.split(gathered, list(places.counts))]


def wait_for_all() -> None:
    """Wait until every rank has called this."""
    if world_size() > 1:
        dist.barrier()


@dataclass(frozen=True, slots=True)
class RandomState:
    """The state of torch's random numbers, of the CPU and of one CUDA device.

    Attributes:
        cpu: uint8, in torch's format.
        cuda: likewise; None on the CPU.
    """

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """Return the current state."""
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
        """Return the state from the result of `tensors`."""
        return cls(tensors["cpu"], tensors.get("cuda"))
