from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.calibration.precision import POINTS, lower_bound, precision_curve, precision_reached
from recognizer.calibration.terms import Answers


def answers(confidence, right):
    return Answers(confidence, right, np.ones(len(right), bool), np.zeros(len(right)))


def test_the_bound_is_clopper_and_pearsons():
    assert lower_bound(149, 149) == pytest.approx(0.05 ** (1 / 149))
    assert lower_bound(0, 10) == 0
    # The chance of 90 or more right ones of 100 is 5 % at the bound.
    bound = lower_bound(90, 100)
    sample = np.random.default_rng(0).binomial(100, bound, size=200_000)
    assert (sample >= 90).mean() == pytest.approx(0.05, abs=0.003)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.9]), st.booleans()), max_size=60))
def test_points_are_monotone_and_each_bounds_the_images_above_it(images):
    confidence = np.array([each for each, _ in images])
    right = np.array([each for _, each in images], bool)
    curve = precision_curve(confidence, right)
    assert len(curve) <= POINTS
    assert bool(curve) == bool(right.any())
    for (before, low, more), (after, high, fewer) in pairwise(curve):
        assert before < after
        assert low < high
        assert more > fewer
    for threshold, bound, count in curve:
        above = confidence >= threshold
        assert count == above.sum()
        assert bound == lower_bound(int(right[above].sum()), int(above.sum()))


def test_the_precision_asked_for_is_missed_in_few_calibrations():
    rng = np.random.default_rng(1)
    missed = []
    for _ in range(200):
        confidence = rng.uniform(size=300)
        curve = precision_curve(confidence, rng.uniform(size=300) < confidence)
        threshold = next((point[0] for point in curve if point[1] >= 0.8), None)
        if threshold is not None:
            missed.append((1 + threshold) / 2 < 0.8)  # the true precision above it
    assert len(missed) > 150
    assert np.mean(missed) < 0.1


def test_what_is_reached_is_counted_on_other_images():
    curve = ((0.5, 0.92, 40.0), (0.8, 0.96, 20.0))
    confidence, right = np.array([0.9, 0.85, 0.6, 0.4]), np.array([True, True, False, True])
    ninety, more = precision_reached(curve, answers(confidence, right))
    assert (ninety.asked, ninety.confidence) == (0.9, 0.5)
    assert (ninety.reached, ninety.labelled) == (pytest.approx(2 / 3), pytest.approx(3 / 4))
    assert (more.asked, more.reached, more.labelled) == (0.95, 1.0, 0.5)
    (none,) = precision_reached(curve[:1], answers(confidence[3:], right[3:]))
    assert np.isnan(none.reached)
