"""Requests that arrive together are encoded together.

A forward pass of one image costs a CPU nearly what one of four costs, and a GPU what one of thirty costs. So an image
waits a few milliseconds for others. Two threads take turns: while one puts rows together, the other encodes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Short beside a forward pass (30 ms and more on a CPU), and long enough for the clients that were answered together to
# ask again together.
WAIT_S = 0.004


class Batcher(Generic[Item, Outcome]):
    """Hands items to a function in batches.

    Args:
        work: is given the items of a batch and returns what each of them comes to, in order.
        key: items of different keys are never in one batch.
        most: items per batch.
        threads: in which `work` is called, each with its own batch; the batcher shuts them down.
        count: of `threads`.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Outcome]],
        *,
        key: Callable[[Item], object],
        most: int,
        threads: ThreadPoolExecutor,
        count: int,
    ) -> None:
        """Start waiting for items."""
        self._work, self._key, self._most = work, key, most
        self._items: queue.SimpleQueue[tuple[Item, Future[Outcome]] | None] = queue.SimpleQueue()
        self._left: tuple[Item, Future[Outcome]] | None = None  # taken out of the queue for the next batch
        self._turn = threading.Lock()  # of the thread that fills a batch
        self._threads, self._count = threads, count
        self._runs = [threads.submit(self._run) for _ in range(count)]

    def submit(self, item: Item) -> Future[Outcome]:
        """Queue an item; the future has its outcome, or the exception of its batch."""
        future: Future[Outcome] = Future()
        self._items.put((item, future))
        return future

    def close(self) -> None:
        """Finish what is queued, and end."""
        for _ in range(self._count):
            self._items.put(None)
        self._threads.shutdown(wait=True)

    def _run(self) -> None:
        while batch := self._next_batch():
            futures = [future for _, future in batch]
            try:
                outcomes = self._work([item for item, _ in batch])
                for future, outcome in zip(futures, outcomes, strict=True):
                    future.set_result(outcome)
            except BaseException as error:  # noqa: BLE001  whoever waits for it raises it again
                for future in futures:
                    if not future.done():
                        future.set_exception(error)

    def _next_batch(self) -> list[tuple[Item, Future[Outcome]]]:
        """Wait for the items of a batch; empty: there will be none."""
        with self._turn:
            first, self._left = self._left or self._items.get(), None
            if first is None:
                return []
            batch = [first]
            until = time.monotonic() + WAIT_S
            while len(batch) < self._most:
                try:
                    following = self._items.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if following is None:
                    self._items.put(None)  # the end is for the next call
                    break
                if self._key(following[0]) != self._key(first[0]):
                    self._left = following
                    break
                batch.append(following)
            return batch
