"""The gradients' average over the ranks, which starts while the backward pass still runs.

torch's DistributedDataParallel does this for a loss that one call of `forward` leads to. Here a step in parts calls the
model twice for each part, the logit scale gets its gradient from the loss, outside of the model, and a weight that no
rank used must keep no gradient. Hooks on the weights need none of this to fit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.distributed import all_reduce_sum, world_size

BUCKET_BYTES = 25 * 2**20
"""As DistributedDataParallel: one transfer of this size uses a network well, and the first ones start early."""


class GradientBuckets:
    """Averages gradients in buckets, each a flat tensor that the gradients of its weights are views of.

    A bucket's transfer starts when all its gradients are there. Collectives must start in one order on all ranks, so a
    bucket also waits for those before it. The layout never changes: a sum over several ranks depends on it in its last
    bit, and a resumed run must repeat it.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
        """Lay out the buckets; with one rank there are none.

        Args:
            parameters: of one dtype on one device, on every rank alike; best in the order in which a backward pass
                reaches them.
            bucket_bytes: a bucket takes weights until it has this size.
        """
        self._buckets = _lay_out(parameters, bucket_bytes) if world_size() > 1 else []
        self._order = list(self._buckets)
        self._pending: deque[_Bucket] = deque()  # of the current backward pass; empty outside of `averaging`
        for bucket in self._buckets:
            for place, parameter in enumerate(bucket.parameters):
                parameter.register_post_accumulate_grad_hook(partial(self._take, bucket, place))  # type: ignore[no-untyped-call]

    @contextmanager
    def averaging(self) -> Iterator[None]:
        """Average the gradients over the ranks; use it around the last backward pass of a step.

        After the `with` block a weight that this rank did not use has the average of the other ranks, with 0 for its
        own; a weight that no rank used keeps no gradient. Does not wait for the device.
        """
        if not self._buckets:
            yield
            return
        for bucket in self._buckets:
            bucket.missing = set(range(len(bucket.parameters)))
        self._pending.extend(self._order)
        yield
        missing = [len(bucket.missing) for bucket in self._buckets]
        used = [int(parameter.grad is not None) for bucket in self._buckets for parameter in bucket.parameters]
        while self._pending:
            self._pending.popleft().start()
        # On the CPU: the host knows these numbers while the device may still be busy with the backward pass.
        counts = iter(all_reduce_sum(torch.tensor(missing + used)).tolist())
        is_late = {bucket: next(counts) > 0 for bucket in self._buckets}
        for bucket in self._buckets:
            bucket.finish(users=counts)
        # A bucket that some rank could not fill holds up those behind it: in the next step it comes last.
        self._order.sort(key=is_late.__getitem__)

    def _take(self, bucket: _Bucket, place: int, _: Tensor) -> None:
        """Take in a finished gradient, and start the transfers that waited for it."""
        if bucket in self._pending:
            bucket.take(place)
            while self._pending and not self._pending[0].missing:
                self._pending.popleft().start()


class _Bucket:
    """Weights whose gradients are averaged in one transfer.

    Attributes:
        parameters: the weights.
        missing: places of the weights whose gradients are not yet in the bucket.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.missing: set[int] = set()
        sizes = [parameter.numel() for parameter in parameters]
        self._values = parameters[0].detach().new_empty(sum(sizes))
        pairs = zip(parameters, torch.split(self._values, sizes), strict=True)
        self._views = [values.view_as(parameter) for parameter, values in pairs]
        self._work: dist.Work | None = None

    def take(self, place: int) -> None:
        """Move a weight's gradient into the bucket; 0 if it has none."""
        self.missing.discard(place)
        parameter, view = self.parameters[place], self._views[place]
        if parameter.grad is None:
            view.zero_()
        else:
            view.copy_(parameter.grad)
        parameter.grad = view

    def start(self) -> None:
        """Start the transfer."""
        for place in tuple(self.missing):
            self.take(place)
        self._work = dist.all_reduce(self._values, async_op=True)

    def finish(self, users: Iterator[int]) -> None:
        """Let the device wait for the transfer, and remove the gradients of weights that no rank used.

        Args:
            users: for each weight of this bucket, and of those after it, the number of ranks that used it.
        """
        if self._work is not None:
            self._work.wait()
        self._values /= world_size()
        for parameter in self.parameters:
            if not next(users):
                parameter.grad = None


def _lay_out(parameters: Sequence[nn.Parameter], bucket_bytes: int) -> list[_Bucket]:
    buckets: list[_Bucket] = []
    group: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        group.append(parameter)
        size += parameter.numel() * parameter.element_size()
        if size >= bucket_bytes:
            buckets.append(_Bucket(group))
            group, size = [], 0
    return [*buckets, _Bucket(group)] if group else buckets
