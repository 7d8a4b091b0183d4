import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize

from recognizer.calibration.figures import threshold_shares
from recognizer.calibration.fit import (
    FEWEST,
    PULL,
    SCALE_PULL,
    LogitProblem,
    fit_score,
    fit_slopes,
    fit_temperature,
    fit_threshold,
    halfway,
)
from recognizer.calibration.terms import UNKNOWN, answer
from recognizer.errors import RecognizerError
from recognizer.settings import TERMS
from tests.recognizer.calibration.tables import drawn_table, make_table

EQUAL = (0.25,) * 4
ALL = np.arange(4)


def slow_loss(table, slopes):
    total = 0.0
    for image in range(len(table)):
        logits = [
            float(table.values[image, c] @ slopes) + table.log_offset[image, c] for c in range(table.values.shape[1])
        ]
        total += np.log(sum(np.exp(logit) for logit in logits)) - logits[table.truth[image]]
    return total / len(table)


def test_loss_equals_the_sum_written_out_and_its_gradient_finite_differences():
    rng = np.random.default_rng(0)
    # More images than are added up at a time.
    table = drawn_table(rng, 700, 6, EQUAL, 0.2)
    table.log_offset[:] = np.where(rng.random(table.log_offset.shape) < 0.2, 1.5, 0)
    problem = LogitProblem(table, ALL)
    slopes = rng.uniform(0, 3, 4)
    loss, gradient = problem.loss(slopes)
    assert loss == pytest.approx(slow_loss(table, slopes), abs=1e-9)
    numeric = approx_fprime(slopes, lambda point: problem.loss(point)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)


def test_spread_leaves_out_categories_that_take_no_part():
    values = np.zeros((1, 3, 4))
    values[0, :, 0] = [1, 3, 1000]
    table = make_table(values, [0]).without(np.array([2]))
    assert LogitProblem(table, ALL).spread.tolist() == [1, 1, 1, 1]


def test_optimum_is_that_of_a_slow_search():
    table = drawn_table(np.random.default_rng(1), 60, 8, (0.5, 0.1, 0.1, 0.3), 0.3, spread=0.5)
    present = (0.2, 0.4, 0.2, 0.2)
    problem = LogitProblem(table, ALL)
    direction = np.array(present) * problem.spread
    direction /= np.linalg.norm(direction)

    def along(scale):
        return slow_loss(table, scale[0] * direction / problem.spread) + SCALE_PULL / 120 * scale[0] ** 2

    scale = minimize(along, [1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x[0]

    def whole(root):
        away = root**2 - scale * direction
        return problem.loss(root**2 / problem.spread)[0] + PULL / 120 * away @ away

    search = {"xatol": 1e-8, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000, "adaptive": True}
    slopes = minimize(whole, np.ones(4), method="Nelder-Mead", options=search).x ** 2 / problem.spread
    np.testing.assert_allclose(fit_slopes(table, present), slopes, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(fit_score(table, present).weights, slopes / slopes.sum(), atol=1e-3)


@pytest.mark.parametrize("term", range(4))
def test_weight_goes_to_the_term_that_knows(term):
    weights = np.eye(4)[term]
    found = fit_score(drawn_table(np.random.default_rng(term), 400, 50, weights, 0.02, spread=0.06), EQUAL)
    assert found.weights[term] > 0.9
    assert sum(found.weights) == pytest.approx(1, abs=1e-9)
    assert min(found.weights) >= 0


def test_weights_and_temperature_that_drew_the_labels_are_found_again():
    weights = (0.4, 0.1, 0.3, 0.2)
    table = drawn_table(np.random.default_rng(2), 3000, 40, weights, 0.1, spread=0.4)
    found = fit_score(table, EQUAL)
    np.testing.assert_allclose(found.weights, weights, atol=0.03)
    assert found.temperature == pytest.approx(0.1, rel=0.05)


def test_standard_scores_and_cosines_are_pulled_alike():
    rng = np.random.default_rng(3)
    table = drawn_table(rng, 30, 20, (0.25, 0.25, 0.25, 0.25), 0.25)
    scaled = make_table(table.values * [1, 1, 0.01, 1], table.truth)
    other = fit_slopes(scaled, (1, 1, 100, 1)) * [1, 1, 0.01, 1]
    np.testing.assert_allclose(other, fit_slopes(table, EQUAL), rtol=1e-3)


def test_few_images_do_not_throw_the_weights_into_a_corner():
    present = (0.2, 0.2, 0.3, 0.3)
    for seed in range(10):
        table = drawn_table(np.random.default_rng(seed), FEWEST, 100, present, 0.2)
        found = np.array(fit_score(table, present, TERMS[:4]).weights)
        assert np.abs(found - present).max() < 0.15


def test_temperature_stays_above_zero_where_every_image_is_right():
    values = np.zeros((40, 5, 4))
    values[:, 0] = 1
    found = fit_score(make_table(values, np.zeros(40, int)), EQUAL)
    confidence = 1 / (1 + 4 * np.exp(-1 / found.temperature))
    assert 0.95 < confidence < 0.99999


def test_temperature_makes_the_best_answers_as_sure_as_they_are_right():
    """Where the truth is not the best one it is the very worst: the likelihood flattens the softmax for its sake."""
    rng = np.random.default_rng(8)
    values = np.zeros((600, 20, 4))
    values[:, :, 0] = [3.0, *np.linspace(1, 0, 18), -4.0]
    table = make_table(values, np.where(rng.random(600) < 0.7, 0, 19))
    weights = (1.0, 0, 0, 0)
    likelihood = 1 / fit_slopes(table, weights).sum()
    assert answer(table, weights, likelihood).confidence.mean() < 0.6
    answers = answer(table, weights, fit_temperature(table, weights, likelihood))
    assert answers.confidence.mean() == pytest.approx(answers.right.mean(), abs=0.01)


def test_temperature_is_the_best_of_a_grid():
    table = drawn_table(np.random.default_rng(9), 150, 30, (0.5, 0.5, 0, 0), 0.3)
    answers = answer(table, EQUAL, 0.3)
    right, wrong = answers.right.sum(), (~answers.right).sum()
    losses = {}
    for temperature in np.geomspace(0.3 / 5, 0.3 * 5, 400):
        sure = answer(table, EQUAL, temperature).confidence
        hit = (right + 1) / (right + 2) * np.log(sure) + np.log(1 - sure) / (right + 2)
        miss = np.log(sure) / (wrong + 2) + (wrong + 1) / (wrong + 2) * np.log(1 - sure)
        losses[temperature] = -np.where(answers.right, hit, miss).mean()
    assert fit_temperature(table, EQUAL, 0.3) == pytest.approx(min(losses, key=losses.get), rel=0.01)


def test_terms_without_a_say_get_no_weight_and_their_present_weight_counts_for_the_names():
    table = drawn_table(np.random.default_rng(4), 25, 30, (0.5, 0, 0, 0.5), 0.25)
    table.values[:, :, 1] = table.values[:, :, 0]
    table.values[:, :, 2] = table.values[:, :, 3]
    found = fit_score(table, (0.0, 0.5, 0.5, 0.0), ("image_name", "region_name"))
    assert found.weights[1] == found.weights[2] == 0
    assert found.weights == fit_score(table, (0.5, 0, 0, 0.5), ("image_name", "region_name")).weights


def test_sampled_categories_give_the_fit_of_all(monkeypatch):
    from recognizer.calibration import terms as terms_module

    table = drawn_table(np.random.default_rng(5), 300, 1500, (0.6, 0.2, 0.1, 0.1), 0.15, spread=0.4)
    whole = fit_score(table, EQUAL)
    for name, value in (("KEEP_ALL", 100), ("BEST", 20), ("OTHERS", 100)):
        monkeypatch.setattr(terms_module, name, value)
    sampled = terms_module.make_table(table.values, table.truth, np.random.default_rng(0))
    assert sampled.values.shape[1] <= 4 * 20 + 1 + 100
    found = fit_score(sampled, EQUAL)
    np.testing.assert_allclose(found.weights, whole.weights, atol=0.02)
    assert found.temperature == pytest.approx(whole.temperature, rel=0.03)


def test_too_few_images_are_refused_with_both_numbers():
    table = drawn_table(np.random.default_rng(6), FEWEST, 10, EQUAL, 0.2)
    table.truth[0] = UNKNOWN
    with pytest.raises(RecognizerError, match=rf"at least {FEWEST} .* {FEWEST - 1}\."):
        fit_score(table, EQUAL)


def test_labels_that_contradict_every_term_are_refused():
    values = np.zeros((FEWEST, 3, 4))
    values[:, 0] = -1
    with pytest.raises(RecognizerError, match="labels belong to the images"):
        fit_score(make_table(values, np.zeros(FEWEST, int)), EQUAL)


def balanced(confidence, known, threshold):
    return sum(threshold_shares(confidence, known, threshold)) / 2


def test_threshold_lies_halfway_between_the_images_it_parts():
    confidence = np.array([0.1, 0.2, 0.4, 0.3, 0.8, 0.9])
    known = np.array([False, False, False, True, True, True])
    threshold = fit_threshold(confidence, known)
    assert threshold == pytest.approx(0.25)  # 0.6 is as good: (2/3 + 1) / 2 as well; the lower is taken
    assert threshold_shares(confidence, known, threshold) == pytest.approx((1, 2 / 3))


def test_no_image_is_called_unknown_where_that_helps_nothing():
    assert fit_threshold(np.array([0.9, 0.1]), np.array([False, True])) == 0


def test_no_threshold_without_known_and_unknown_images():
    assert fit_threshold(np.array([0.5]), np.array([True])) is None
    assert fit_threshold(np.array([0.5]), np.array([False])) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_no_other_threshold_is_better_and_none_lower_as_good(pairs):
    confidence = np.array([c for c, _ in pairs])
    known = np.array([k for _, k in pairs])
    threshold = fit_threshold(confidence, known)
    if threshold is None:
        return
    best = balanced(confidence, known, threshold)
    for other in [*confidence, 2.0]:
        assert balanced(confidence, known, other) <= best + 1e-9
        if other < threshold:
            assert balanced(confidence, known, other) < best


@given(st.floats(0, 1), st.floats(0, 1))
def test_halfway_parts_even_neighbouring_floats(one, other):
    if one == other:
        other = float(np.nextafter(one, 2))
    below, above = sorted((one, other))
    assert below < halfway(below, above) <= above
