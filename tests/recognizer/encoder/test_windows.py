import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recognizer.encoder.windows import WindowSettings, pool_windows, window_boxes, window_cells
from tests.reference import window_means

grids = st.tuples(st.integers(1, 24), st.integers(1, 24))


@given(grid_hw=grids)
def test_pooling_equals_the_loop(grid_hw):
    tokens = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *grid_hw, 3)).astype(np.float32))
    cells = window_cells(grid_hw, WindowSettings())
    np.testing.assert_allclose(pool_windows(tokens, cells).numpy(), window_means(tokens.numpy(), cells), atol=1e-5)


@given(grid_hw=grids)
def test_windows_are_distinct_and_inside_the_grid(grid_hw):
    cells = window_cells(grid_hw, WindowSettings())
    assert 1 <= len(np.unique(cells, axis=0)) == len(cells) <= 50
    assert (cells >= 0).all()
    assert (cells[:, 2:] <= grid_hw[::-1]).all()
    assert (cells[:, 2:] > cells[:, :2]).all()


@pytest.mark.parametrize("side", [7, 14, 16, 24, 27])
def test_the_number_of_windows_does_not_grow_with_the_grid(side):
    assert len(window_cells((side, side), WindowSettings())) == 50


def test_boxes_of_a_small_grid_by_hand():
    cells = window_cells((2, 4), WindowSettings(divisions=2, sizes=(1, 2)))
    expected = [[0, 0, 2, 1], [2, 0, 4, 1], [0, 1, 2, 2], [2, 1, 4, 2], [0, 0, 4, 2]]
    np.testing.assert_array_equal(cells, expected)
    np.testing.assert_array_equal(window_boxes(cells, (2, 4), (20, 80))[1], [40, 0, 80, 10])


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="divisions = 7"):
        WindowSettings(sizes=(8,))
    with pytest.raises(ValueError, match="stride 0"):
        WindowSettings(stride=0)
