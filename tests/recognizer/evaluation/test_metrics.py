import numpy as np
import pytest

from recognizer.evaluation.metrics import confusions, measure, truth_ranks


def test_rank_counts_what_is_better_and_ties_in_lower_columns():
    scores = np.array([[0.9, 0.5, 0.5, 0.1]] * 4, np.float32)
    assert truth_ranks(scores, np.arange(4)).tolist() == [1, 2, 3, 4]


def test_accuracies_of_a_table_worked_by_hand():
    ranks, truth = np.array([1, 1, 2, 6]), np.array([7, 7, 7, 9])
    accuracy = measure(ranks, truth)
    assert accuracy.top1.value == 0.5
    assert accuracy.top5.value == 0.75
    assert accuracy.mean_per_class_recall.value == pytest.approx((2 / 3 + 0) / 2)
    assert accuracy.median_rank == 1.5
    assert accuracy.top1.low <= 0.5 <= accuracy.top1.high


def test_interval_has_the_width_of_a_binomial():
    ranks = np.array([1, 9] * 50)
    top1 = measure(ranks, np.zeros(100, int)).top1
    assert top1.high - top1.low == pytest.approx(2 * 1.96 * 0.05, abs=0.03)


def test_confusions_are_counted_and_right_answers_left_out():
    assert confusions(["a", "a", "b", "c"], ["b", "b", "b", "a"]) == [("a", "b", 2), ("c", "a", 1)]
