"""Batches: full ones at once, one key each, errors to all of a batch, and nothing lost at the end."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from recognizer.serving.batches import Batcher


def batcher(work, most=4, count=1):
    return Batcher(work, key=lambda item: item[0], most=most, threads=ThreadPoolExecutor(count), count=count)


def test_items_that_wait_together_are_one_batch_of_at_most_so_many():
    sizes, gate, begun = [], threading.Event(), threading.Event()

    def work(items):
        begun.set()
        gate.wait(10)
        sizes.append(len(items))
        return [item[1] * 10 for item in items]

    queue = batcher(work)
    first = queue.submit(("a", 0))
    begun.wait(10)
    futures = [first, *(queue.submit(("a", number)) for number in range(1, 10))]
    gate.set()
    assert [future.result(10) for future in futures] == [number * 10 for number in range(10)]
    queue.close()
    assert max(sizes) == 4
    assert sum(sizes) == 10


def test_items_of_different_keys_are_never_together():
    seen = []

    def work(items):
        seen.append({key for key, _ in items})
        return [number for _, number in items]

    queue = batcher(work, count=2)
    futures = [queue.submit((key, number)) for number, key in enumerate("aababbbaab" * 5)]
    assert [future.result(10) for future in futures] == list(range(50))
    queue.close()
    assert all(len(keys) == 1 for keys in seen)


def test_an_error_reaches_those_who_wait_for_the_batch_and_the_next_batch_is_served():
    def work(items):
        if any(number < 0 for _, number in items):
            raise ArithmeticError("negative")
        return [number for _, number in items]

    queue = batcher(work)
    with pytest.raises(ArithmeticError, match="negative"):
        queue.submit(("a", -1)).result(10)
    assert queue.submit(("a", 7)).result(10) == 7
    queue.close()


def test_closing_finishes_what_is_queued():
    queue = batcher(lambda items: [number for _, number in items], count=2)
    futures = [queue.submit(("a", number)) for number in range(100)]
    queue.close()
    assert [future.result(0) for future in futures] == list(range(100))
