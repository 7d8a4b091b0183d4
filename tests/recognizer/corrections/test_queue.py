"""The order of review: the greedy maximum, found quickly, with near-duplicates apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.corrections.queue import SIGMA, review_order
from tests.recognizer.worlds import unit


def slow_order(images, margins):
    """Every gain of every image at every step."""
    kernels = np.exp((images.astype(np.float64) @ images.T.astype(np.float64) - 1) / SIGMA)
    covered, left, order = np.zeros(len(images)), list(np.argsort(margins, kind="stable")), []
    while left:
        gains = [np.maximum(kernels[row] - covered, 0) @ (1 - margins) for row in left]
        row = left.pop(int(np.argmax(np.round(gains, 5))))
        order.append(row)
        covered = np.maximum(covered, kernels[row])
    return order


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_it_is_the_greedy_maximum(seed, count):
    rng = np.random.default_rng(seed)
    images, margins = unit(rng, count, 4), rng.uniform(size=count)
    order = review_order(images, margins)
    assert sorted(order) == list(range(count))
    kernels = np.exp((images.astype(np.float64) @ images.T - 1) / SIGMA)

    def covered(rows):
        return kernels[rows].max(0) @ (1 - margins)

    for seen in range(1, count):  # ties may be broken otherwise, so values are compared and not rows
        assert covered(order[:seen]) == pytest.approx(covered(slow_order(images, margins)[:seen]), rel=1e-3)


def test_near_duplicates_do_not_come_in_a_row():
    rng = np.random.default_rng(0)
    ten = unit(rng, 1, 16) + rng.normal(size=(10, 16)).astype(np.float32) * 0.001
    images = np.concatenate([ten / np.linalg.norm(ten, axis=1, keepdims=True), unit(rng, 10, 16)])
    order = review_order(images, np.full(20, 0.1)).tolist()
    assert order[0] < 10  # one for all ten
    assert all(row >= 10 for row in order[1:11])


def test_what_is_sure_comes_last():
    rng = np.random.default_rng(1)
    margins = np.r_[np.ones(5), np.zeros(5)]
    assert set(review_order(unit(rng, 10, 64), margins)[:5].tolist()) == set(range(5, 10))


def test_of_many_images_only_some_are_references_and_none_is_lost():
    rng = np.random.default_rng(2)
    margins = rng.uniform(size=9000)
    order = review_order(unit(rng, 9000, 4), margins)
    assert sorted(order) == list(range(9000))
    assert (np.diff(margins[order[1000:]]) >= 0).all()


def test_without_images_there_is_no_order():
    assert review_order(np.zeros((0, 4), np.float32), np.zeros(0)).tolist() == []
