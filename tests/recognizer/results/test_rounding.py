import math

import pytest

from recognizer.results.rounding import rounded, rounded_box, rounded_confidence, rounded_weight


def test_numbers_keep_what_tells_results_apart():
    assert rounded(0.123456785001) == rounded_weight(0.123456785001) == 0.12345679
    assert rounded_confidence(1.23456749e-9) == 1.23457e-9
    assert rounded_box((1.004, 2.006, 3, 4)) == [1.0, 2.01, 3.0, 4.0]


@pytest.mark.parametrize("one", [rounded, rounded_weight, rounded_confidence, lambda number: rounded_box([number])[0]])
def test_minus_zero_is_zero_and_what_is_not_finite_is_refused(one):
    assert math.copysign(1, one(-1e-12 if one is not rounded_confidence else -0.0)) == 1
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="must be finite"):
            one(number)
