import numpy as np
import pytest

from recognizer.calibration.terms import UNKNOWN, answer
from recognizer.score import log_normaliser
from tests.recognizer.calibration.tables import make_table

WEIGHTS = (0.3, 0.2, 0.1, 0.2, 0.2)


def test_confidences_are_those_of_a_run():
    rng = np.random.default_rng(0)
    table = make_table(rng.normal(size=(40, 9, 5)), rng.integers(-1, 9, 40))
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
    values = np.zeros((1, 3, 5))
    values[0, :, 0] = [9, 1, 0]
    whole = make_table(values, [1])
    assert not answer(whole, WEIGHTS, 1.0).right[0]
    fewer = answer(whole.without(np.array([0])), WEIGHTS, 1.0)
    assert fewer.right[0]
    assert fewer.confidence[0] == pytest.approx(1 / (1 + np.exp(-0.3)))


def test_sampled_category_stands_for_many_in_the_sum_and_competes_as_one():
    values = np.zeros((1, 2, 5))
    values[0, :, 0] = [1, 0]
    table = make_table(values, [0])
    table.log_offset[0, 1] = np.log(50)
    found = answer(table, (1, 0, 0, 0, 0), 1.0)
    assert found.right[0]
    assert found.confidence[0] == pytest.approx(np.e / (np.e + 50))
