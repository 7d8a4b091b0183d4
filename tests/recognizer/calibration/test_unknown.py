import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.calibration.fit import apply_threshold, fit_threshold, halfway

images = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def test_threshold_lies_halfway_between_the_images_it_parts():
    confidence = np.array([0.1, 0.2, 0.4, 0.3, 0.8, 0.9])
    known = np.array([False, False, False, True, True, True])
    rule = fit_threshold(confidence, known)
    assert rule.threshold == pytest.approx(0.25)  # 0.6 is as good: (2/3 + 1) / 2 as well; the lower is taken
    assert (rule.known_kept, rule.unknown_found) == pytest.approx((1, 2 / 3))
    assert rule.balanced_accuracy == pytest.approx(5 / 6)


def test_no_image_is_called_unknown_where_that_helps_nothing():
    rule = fit_threshold(np.array([0.9, 0.1]), np.array([False, True]))
    assert rule.threshold == 0
    assert (rule.known_kept, rule.unknown_found) == (1, 0)


def test_no_threshold_without_known_and_unknown_images():
    assert fit_threshold(np.array([0.5]), np.array([True])) is None
    assert fit_threshold(np.array([0.5]), np.array([False])) is None


@given(images)
def test_no_other_threshold_is_better_and_none_lower_as_good(pairs):
    confidence = np.array([c for c, _ in pairs])
    known = np.array([k for _, k in pairs])
    rule = fit_threshold(confidence, known)
    if rule is None:
        return
    again = apply_threshold(confidence, known, rule.threshold)
    assert (again.known_kept, again.unknown_found) == pytest.approx((rule.known_kept, rule.unknown_found))
    for threshold in [*confidence, 2.0]:
        other = apply_threshold(confidence, known, threshold).balanced_accuracy
        assert other <= rule.balanced_accuracy + 1e-9
        if threshold < rule.threshold:
            assert other < rule.balanced_accuracy


@given(st.floats(0, 1), st.floats(0, 1))
def test_halfway_parts_even_neighbouring_floats(one, other):
    if one == other:
        other = float(np.nextafter(one, 2))
    below, above = sorted((one, other))
    assert below < halfway(below, above) <= above


def test_share_of_no_images_is_not_a_number():
    rule = apply_threshold(np.array([0.5]), np.array([True]), 0.4)
    assert rule.known_kept == 1
    assert np.isnan(rule.unknown_found)
