import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from recognizer.calibration.rerank import LARGEST_WEIGHT, MarginFit, fit_margin, fit_weight
from recognizer.errors import RecognizerError
from rerank.choice import fuse


def slow_loss(weight, log_answers, confidences, truth):
    pairs = zip(log_answers, confidences, truth, strict=True)
    return float(np.mean([-np.log(fuse(answer, prior, weight)[place]) for answer, prior, place in pairs if place >= 0]))


def world(rng, images, options, true_weight):
    """Truths drawn from the fused distribution at a weight that is known."""
    log_answers = np.log(rng.dirichlet(np.ones(options), size=images))
    confidences = rng.dirichlet(np.ones(options), size=images)
    fused = [fuse(answer, prior, true_weight) for answer, prior in zip(log_answers, confidences, strict=True)]
    return log_answers, confidences, np.array([rng.choice(options, p=p) for p in fused])


@pytest.mark.parametrize("weight", [0.3, 1.0, 2.5])
def test_weight_that_drew_the_truths_is_found_again(weight):
    found = fit_weight(*world(np.random.default_rng(0), 4000, 5, weight))
    assert found == pytest.approx(weight, abs=0.05 + 0.05 * weight)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6))
def test_weight_is_that_of_a_slow_search(seed, images, options):
    rng = np.random.default_rng(seed)
    log_answers, confidences, truth = world(rng, images, options, rng.uniform(0, 3))
    truth[rng.random(images) < 0.3] = -1
    if (truth < 0).all():
        with pytest.raises(RecognizerError, match="top_k"):
            fit_weight(log_answers, confidences, truth)
        return
    found = fit_weight(log_answers, confidences, truth)
    slow = minimize_scalar(
        slow_loss, bounds=(0, LARGEST_WEIGHT), args=(log_answers, confidences, truth), method="bounded"
    )
    assert 0 <= found <= LARGEST_WEIGHT
    assert slow_loss(found, log_answers, confidences, truth) <= slow.fun + 1e-9


def test_answers_that_know_nothing_or_are_against_the_truth_weigh_nothing():
    confidences = np.array([[0.7, 0.3]] * 10)
    assert fit_weight(np.log(np.full((10, 2), 0.5)), confidences, np.zeros(10, int)) == 0
    against = np.log(np.array([[0.1, 0.9]] * 10))
    assert fit_weight(against, confidences, np.zeros(10, int)) == 0


def test_answers_that_are_never_wrong_weigh_as_much_as_may_be():
    sure = np.array([[0.0, -np.inf]] * 10)
    assert fit_weight(sure, np.array([[0.2, 0.8]] * 10), np.zeros(10, int)) == LARGEST_WEIGHT


def test_margin_worked_by_hand():
    margins = np.array([0.1, 0.2, 0.3, 0.9])
    before = np.array([False, False, True, True])
    after = np.array([True, True, True, True])
    assert fit_margin(margins, before, after) == MarginFit(pytest.approx(0.25), 0.5, 1.0)
    assert fit_margin(margins, before, after, share=0.5) == MarginFit(pytest.approx(0.15), 0.25, 0.5)


def test_no_gain_asks_nothing_and_gain_at_the_end_asks_all():
    margins, right, wrong = np.array([0.1, 0.8]), np.array([True, True]), np.array([False, True])
    assert fit_margin(margins, right, right) == MarginFit(0.0, 0.0, 0.0)
    assert fit_margin(margins, right, wrong) == MarginFit(0.0, 0.0, 0.0)
    assert fit_margin(margins, wrong[::-1], right) == MarginFit(1.0, 1.0, 1.0)


@given(
    st.lists(st.tuples(st.integers(0, 9).map(lambda n: n / 10), st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.95, 1.0]),
)
def test_margin_keeps_the_gain_and_no_smaller_one_does(triples, share):
    margins, before, after = (np.array(column) for column in zip(*triples, strict=True))
    total = int(after.sum()) - int(before.sum())
    fit = fit_margin(margins, before, after, share)
    if total <= 0:
        assert fit.margin == 0
        return

    def gain(limit):
        asked = margins < limit
        return int((after[asked].astype(int) - before[asked].astype(int)).sum())

    assert gain(fit.margin) >= share * total - 1e-9
    assert fit.gain_share == pytest.approx(gain(fit.margin) / total)
    assert fit.asked_share == pytest.approx((margins < fit.margin).mean())
    for limit in margins[margins < fit.margin]:
        assert gain(limit) < share * total
