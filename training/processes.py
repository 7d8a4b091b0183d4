"""The processes of a run as `torchrun` starts them: one rank each, with its own device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from recognizer.encoder.precision import choose_device
from training.distributed import RankRows, world_size

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
