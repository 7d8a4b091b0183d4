import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.calibration.figures import auroc, chance_error, coverage_curve, reliability, threshold_shares

# few distinct values, so that there are ties
images = st.lists(st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.booleans()), min_size=1, max_size=60)


def columns(pairs):
    return np.array([c for c, _ in pairs], float), np.array([r for _, r in pairs], bool)


def test_calibration_error_of_a_table_worked_by_hand():
    confidence = np.repeat([0.3, 0.9], 10)
    right = np.r_[np.arange(10) < 5, np.arange(10) < 8]
    found = reliability(confidence, right, bins=2)
    np.testing.assert_allclose(found.confidence, [0.3, 0.9])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.8])
    assert found.counts.tolist() == [10, 10]
    assert found.error == pytest.approx((0.2 + 0.1) / 2)


def test_bins_hold_equally_many_images_and_not_too_few():
    rng = np.random.default_rng(0)
    confidence = rng.random(1000) ** 4
    counts = reliability(confidence, rng.random(1000) < 0.5).counts
    assert len(counts) == 15
    assert counts.max() - counts.min() <= 1
    assert reliability(confidence[:22], np.ones(22, bool)).counts.tolist() == [6, 6, 5, 5]
    assert reliability(confidence[:3], np.ones(3, bool)).counts.tolist() == [3]


def test_calibration_error_of_a_perfect_sampler_is_what_chance_says():
    rng = np.random.default_rng(1)
    confidence = rng.random(40_000)
    error = reliability(confidence, rng.random(40_000) < confidence).error
    assert error < 0.01
    few = rng.random(60)
    errors = [reliability(few, rng.random(60) < few).error for _ in range(300)]
    assert chance_error(few) == pytest.approx(np.mean(errors), abs=0.01)
    assert chance_error(few) > 0.05


def test_calibration_error_of_an_overconfident_sampler_is_the_excess():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.5, 1, 40_000)
    assert reliability(confidence, rng.random(40_000) < confidence - 0.2).error == pytest.approx(0.2, abs=0.01)


def test_coverage_of_a_table_worked_by_hand():
    found = coverage_curve(np.array([0.2, 0.9, 0.5, 0.5]), np.array([False, True, True, False]))
    np.testing.assert_allclose(found.confidence, [0.9, 0.5, 0.5, 0.2])
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.accuracy, [1, 1.5 / 2, 2 / 3, 2 / 4])
    assert found.area == pytest.approx((1 + 0.75 + 2 / 3 + 0.5) / 4)


@given(images, st.integers(0, 1000))
def test_no_figure_depends_on_the_order_of_the_images(pairs, seed):
    confidence, right = columns(pairs)
    order = np.random.default_rng(seed).permutation(len(pairs))
    one, other = coverage_curve(confidence, right), coverage_curve(confidence[order], right[order])
    np.testing.assert_allclose(one.accuracy, other.accuracy)
    assert one.accuracy[-1] == pytest.approx(right.mean())
    first, second = reliability(confidence, right), reliability(confidence[order], right[order])
    assert first.error == pytest.approx(second.error)
    assert np.average(first.accuracy, weights=first.counts) == pytest.approx(right.mean())


@given(images)
def test_auroc_counts_the_pairs_in_order(pairs):
    confidence, known = columns(pairs)
    wins = [1.0 if k > u else 0.5 if k == u else 0.0 for k in confidence[known] for u in confidence[~known]]
    if wins:
        assert auroc(confidence, known) == pytest.approx(np.mean(wins))
    else:
        assert np.isnan(auroc(confidence, known))


def test_threshold_keeps_what_reaches_it_and_a_share_of_no_images_is_not_a_number():
    confidence, known = np.array([0.4, 0.3, 0.4, 0.1]), np.array([True, True, False, False])
    assert threshold_shares(confidence, known, 0.4) == (0.5, 0.5)
    kept, found = threshold_shares(np.array([0.5]), np.array([True]), 0.4)
    assert kept == 1
    assert np.isnan(found)
    assert np.isnan(threshold_shares(np.array([0.5]), np.array([False]), 0.4)[0])
