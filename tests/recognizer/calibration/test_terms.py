import numpy as np
import pytest

from recognizer.calibration import terms as terms_module
from recognizer.calibration.terms import UNKNOWN, TermTable, answer, distinct_terms, make_table
from recognizer.score import log_normaliser
from recognizer.settings import TERMS
from tests.recognizer.calibration.tables import make_table as whole_table
from tests.recognizer.worlds import make_vectors

WEIGHTS = (0.4, 0.2, 0.1, 0.3)


def test_terms_that_repeat_others_are_named():
    rng = np.random.default_rng(0)
    assert distinct_terms(make_vectors(rng, [0, 0])) == ("image_name", "region_name")
    assert distinct_terms(make_vectors(rng, [0, 1])) == TERMS[:4]


def test_small_memory_is_kept_whole():
    values = np.random.default_rng(0).normal(size=(2, 7, 4)).astype(np.float32)
    table = make_table(values, np.array([3, UNKNOWN]), np.random.default_rng(0))
    np.testing.assert_array_equal(table.values, values)
    np.testing.assert_array_equal(table.categories, [np.arange(7)] * 2)
    assert not table.log_offset.any()
    assert table.true_categories().tolist() == [3, UNKNOWN]


@pytest.fixture
def small_limits(monkeypatch):
    for name, value in (("KEEP_ALL", 50), ("BEST", 4), ("OTHERS", 10)):
        monkeypatch.setattr(terms_module, name, value)


def test_large_memory_keeps_the_best_the_truth_and_a_sample(small_limits):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 200, 4)).astype(np.float32)
    worst = int(values[0].sum(1).argmin())
    table = make_table(values, np.array([worst, 5, UNKNOWN]), rng)
    assert table.true_categories().tolist() == [worst, 5, UNKNOWN]
    assert table.categories.shape == (3, 4 * 4 + 10)
    for image, truth in enumerate([worst, 5, UNKNOWN]):
        kept = table.categories[image]
        assert (np.diff(kept) > 0).all()
        np.testing.assert_array_equal(table.values[image], values[image, kept])
        best = {int(c) for term in range(4) for c in np.argsort(-values[image, :, term])[:4]} | {truth} - {UNKNOWN}
        sampled = table.log_offset[image] > 0
        assert set(kept[~sampled].tolist()) == best
        rest = 200 - len(best)
        np.testing.assert_allclose(table.log_offset[image][sampled], np.log(rest / sampled.sum()))


def test_sum_over_the_kept_is_an_unbiased_estimate_of_the_sum_over_all(small_limits):
    values = np.random.default_rng(2).normal(size=(1, 300, 4)).astype(np.float32)
    slopes = np.array([0.5, 0.2, 0.1, 0.4])
    taken_out = np.arange(0, 300, 3)
    whole = np.exp(values[0] @ slopes)
    remaining = np.delete(whole, taken_out)
    rng = np.random.default_rng(3)
    estimates, without = [], []
    for _ in range(400):
        table = make_table(values, np.array([7]), rng)
        estimates.append(np.exp(table.values[0] @ slopes + table.log_offset[0]).sum())
        fewer = table.without(taken_out)
        without.append(np.exp(fewer.values[0] @ slopes + fewer.log_offset[0]).sum())
    for found, exact in ((estimates, whole.sum()), (without, remaining.sum())):
        error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) == pytest.approx(exact, abs=4 * error)
        assert error < 0.02 * exact


def test_category_taken_out_leaves_every_softmax_and_its_images_are_unknown():
    values = np.zeros((3, 4, 4), np.float32)
    table = make_table(values, np.array([0, 2, 1]), np.random.default_rng(0)).without(np.array([2]))
    assert table.truth.tolist() == [0, UNKNOWN, 1]
    assert table.known.tolist() == [True, False, True]
    assert np.isneginf(table.log_offset[:, 2]).all()
    assert np.isfinite(np.delete(table.log_offset, 2, axis=1)).all()


def test_joining_keeps_the_order_of_the_images():
    one = make_table(np.ones((1, 3, 4), np.float32), np.array([2]), np.random.default_rng(0))
    other = make_table(np.zeros((2, 3, 4), np.float32), np.array([1, UNKNOWN]), np.random.default_rng(0))
    both = TermTable.concatenate([one, other])
    assert both.true_categories().tolist() == [2, 1, UNKNOWN]
    assert both.values[:, 0, 0].tolist() == [1, 0, 0]


def test_confidences_are_those_of_a_run():
    rng = np.random.default_rng(0)
    table = whole_table(rng.normal(size=(40, 9, 4)), rng.integers(-1, 9, 40))
    answers = answer(table, WEIGHTS, 0.3)
    scores = (table.values @ np.array(WEIGHTS)).astype(np.float32)
    log_p = scores / 0.3 - log_normaliser(scores, 0.3)[:, None]
    np.testing.assert_allclose(answers.confidence, np.exp(log_p).max(1), rtol=1e-5)
    np.testing.assert_array_equal(answers.right, log_p.argmax(1) == table.truth)
    np.testing.assert_array_equal(answers.known, table.truth != UNKNOWN)
    numbers = np.flatnonzero(answers.known)
    np.testing.assert_allclose(answers.loss[numbers], -log_p[numbers, table.truth[numbers]], rtol=1e-5)
    assert np.isnan(answers.loss[~answers.known]).all()
    assert len(answers.of_known().loss) == len(numbers)
    assert answers.of_known().known.all()


def test_category_taken_out_is_never_the_answer():
    values = np.zeros((1, 3, 4))
    values[0, :, 0] = [9, 1, 0]
    whole = whole_table(values, [1])
    assert not answer(whole, WEIGHTS, 1.0).right[0]
    fewer = answer(whole.without(np.array([0])), WEIGHTS, 1.0)
    assert fewer.right[0]
    assert fewer.confidence[0] == pytest.approx(1 / (1 + np.exp(-0.4)))


def test_sampled_category_stands_for_many_in_the_sum_and_competes_as_one():
    values = np.zeros((1, 2, 4))
    values[0, :, 0] = [1, 0]
    table = whole_table(values, [0])
    table.log_offset[0, 1] = np.log(50)
    found = answer(table, (1, 0, 0, 0), 1.0)
    assert found.right[0]
    assert found.confidence[0] == pytest.approx(np.e / (np.e + 50))
