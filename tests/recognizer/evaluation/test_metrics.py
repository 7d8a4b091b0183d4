import numpy as np
import pytest

from recognizer.evaluation.metrics import bootstrap, confusions, measure, truth_ranks


def test_rank_counts_what_is_better_and_ties_in_lower_columns():
    scores = np.array([[0.9, 0.5, 0.5, 0.1]] * 4, np.float32)
    assert truth_ranks(scores, np.arange(4)).tolist() == [1, 2, 3, 4]


def test_a_category_that_cannot_be_the_answer_is_never_among_the_first_five():
    scores = np.array([[0.9, -np.inf, -np.inf]] * 3, np.float32)
    assert truth_ranks(scores, np.arange(3)).tolist() == [1, 8, 8]


def test_accuracies_of_a_table_worked_by_hand():
    ranks, truth = np.array([1, 1, 2, 6]), np.array([7, 7, 7, 9])
    accuracy = measure(ranks, truth)
    assert accuracy.top1.value == 0.5
    assert accuracy.top5.value == 0.75
    assert accuracy.mean_per_class_recall.value == pytest.approx((2 / 3 + 0) / 2)
    assert accuracy.median_rank == 1.5
    assert accuracy.top1.low <= 0.5 <= accuracy.top1.high


def test_interval_holds_95_per_cent_of_a_binomial():
    ranks = np.array([1, 9] * 5000)
    top1 = measure(ranks, np.zeros(10_000, int)).top1
    # An interval of 90 % would be 16 % narrower.
    assert top1.high - top1.low == pytest.approx(2 * 1.96 * 0.005, rel=0.1)
    assert (top1.low + top1.high) / 2 == pytest.approx(0.5, abs=0.001)


def test_bootstrap_is_that_of_a_slow_loop():
    values = np.random.default_rng(1).normal(size=30)
    found = bootstrap(lambda drawn: float(values[drawn].mean()), 30, seed=5, resamples=200)
    rng = np.random.default_rng(5)
    means = sorted(values[rng.integers(30, size=30)].mean() for _ in range(200))
    assert found.value == pytest.approx(values.mean())
    assert sum(mean < found.low for mean in means) == pytest.approx(200 * 0.025, abs=1)
    assert sum(mean > found.high for mean in means) == pytest.approx(200 * 0.025, abs=1)


def test_class_that_a_draw_misses_has_no_recall():
    # Every image is right, so every draw is, whichever classes it holds.
    recall = measure(np.ones(4, int), np.array([0, 1, 2, 5])).mean_per_class_recall
    assert (recall.value, recall.low, recall.high) == (1, 1, 1)


def test_draws_without_a_value_are_left_out():
    known = np.array([True, False])
    found = bootstrap(lambda drawn: 1.0 if len(set(known[drawn])) == 2 else float("nan"), 2)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    nothing = bootstrap(lambda drawn: float("nan"), 2, resamples=3)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_confusions_are_counted_and_right_answers_left_out():
    assert confusions(["a", "a", "b", "c"], ["b", "b", "b", "a"]) == [("a", "b", 2), ("c", "a", 1)]
