import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.halves import rounded, to_halves, widened


def test_every_finite_number_of_fp16_becomes_the_same_float32():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 2)
    assert (widened(halves).view(np.uint32) == halves.astype(np.float32).view(np.uint32)).all()


@given(st.integers(0, 40), st.integers(1, 3000), st.integers(1, 3))
def test_any_shape_and_any_stride_is_widened(rows, dim, step):
    halves = to_halves(np.random.default_rng(0).standard_normal((rows, dim)))
    np.testing.assert_array_equal(widened(halves[::step]), halves[::step].astype(np.float32))


def test_rounding_twice_is_rounding_once_and_unit_rows_stay_near():
    rows = np.random.default_rng(0).standard_normal((50, 300)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    once = rounded(rows)
    np.testing.assert_array_equal(rounded(once), once)
    np.testing.assert_allclose(once @ once.T, rows @ rows.T, atol=1e-4)
    assert once.dtype == np.float32
