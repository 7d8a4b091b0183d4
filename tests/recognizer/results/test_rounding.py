import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recognizer.results.rounding import rounded, rounded_all, rounded_box, rounded_confidence


def test_numbers_keep_what_tells_results_apart():
    assert rounded(0.123456785001) == 0.12345679
    assert rounded_confidence(1.23456749e-9) == 1.23457e-9
    assert rounded_box((1.004, 2.006, 3, 4)) == [1.0, 2.01, 3.0, 4.0]


@given(st.lists(st.floats(-20, 20) | st.integers(-(10**9), 10**9).map(lambda n: (n + 0.5) / 1e8)))
@example([0.5e-8, 1.5e-8, 0.123456785, 1e12 / 7, 1e300])
def test_many_numbers_are_rounded_as_one_is(numbers):
    assert list(map(repr, rounded_all(numbers))) == list(map(repr, map(rounded, numbers)))


@pytest.mark.parametrize(
    "one",
    [rounded, lambda number: rounded_all([0, number])[1], rounded_confidence, lambda number: rounded_box([number])[0]],
)
def test_minus_zero_is_zero_and_what_is_not_finite_is_refused(one):
    assert math.copysign(1, one(-1e-12 if one is not rounded_confidence else -0.0)) == 1
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="must be finite"):
            one(number)
