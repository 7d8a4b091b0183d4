from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import BadVectors, ExemplarSet
from memory.vectors import are_unit_rows, check_unit_rows, mean_by_category, normalize_rows, unit_mean
from tests.recognizer.worlds import make_vectors


def unit_rows(count, dim=5, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_means_by_category_are_those_of_a_loop(counts):
    values = np.random.default_rng(sum(counts)).standard_normal((sum(counts), 3)).astype(np.float32)
    empty = np.full((len(counts), 3), 7, np.float32)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    means = mean_by_category(values, offsets, empty)
    for row, (start, end) in enumerate(pairwise(offsets)):
        expected = values[start:end].mean(axis=0) if end > start else empty[row]
        np.testing.assert_allclose(means[row], expected, atol=1e-6)
    assert (empty == 7).all()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_unit_means_are_those_of_a_loop_and_single_rows_stay_as_they_are(groups):
    rows = unit_rows(sum(groups))
    means = unit_mean(rows, np.array(groups), [str(g) for g in groups])
    start = 0
    for mean, size in zip(means, groups, strict=True):
        total = rows[start : start + size].astype(np.float64).sum(axis=0)
        if size == 1:
            np.testing.assert_array_equal(mean, rows[start])
        np.testing.assert_allclose(mean, total / np.linalg.norm(total), atol=1e-6)
        start += size


def test_rows_that_cancel_out_are_refused_with_their_label():
    rows = np.array([[1, 0], [1, 0], [-1, 0]], np.float32)
    with pytest.raises(BadVectors, match="'second' cancel out"):
        unit_mean(rows, np.array([1, 2]), ["first", "second"])


def test_unit_rows_are_finite_and_of_length_one():
    lengths = np.array([1, 1.0005, 0.9995, 1.002, 0.998, 0, np.nan, np.inf, 1e30], np.float32)
    assert are_unit_rows(np.outer(lengths, [0.6, 0.8]).astype(np.float32)).tolist() == [True] * 3 + [False] * 6


def test_rows_are_stored_as_float32_and_refused_by_label():
    matrix = check_unit_rows(unit_rows(3).astype(np.float64)[:, ::-1], "abc", 5, "the test")
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    with pytest.raises(BadVectors, match=r"the test gave 1 vectors .* length 2, is for 'b'"):
        check_unit_rows(unit_rows(2) * np.array([[1], [2]]), "ab", 5, "the test")
    with pytest.raises(BadVectors, match=r"shape \(2, 5\) where \(3, 5\)"):
        check_unit_rows(unit_rows(2), "abc", 5, "the test")


def test_columns_of_an_exemplar_set_have_one_length():
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        ExemplarSet(["a"], ["b"], ["c"], unit_rows(2))


@given(st.lists(st.integers(0, 3), max_size=6), st.data())
def test_some_categories_keep_their_descriptions_and_exemplars(counts, data):
    rows = data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True).map(sorted) if counts else st.just([]))
    examples = counts[::-1]
    vectors = make_vectors(np.random.default_rng(0), counts, examples)
    some = vectors.take(np.array(rows, np.int64))
    assert list(some.categories) == [vectors.categories[row] for row in rows]
    np.testing.assert_array_equal(some.names, vectors.names[rows])
    for place, row in enumerate(rows):
        new, old = some.offsets[place : place + 2], vectors.offsets[row : row + 2]
        assert some.descriptions[slice(*new)] == vectors.descriptions[slice(*old)]
        np.testing.assert_array_equal(some.grounded[slice(*new)], vectors.grounded[slice(*old)])
        np.testing.assert_array_equal(some.bare[slice(*new)], vectors.bare[slice(*old)])
        new, old = some.exemplar_offsets[place : place + 2], vectors.exemplar_offsets[row : row + 2]
        assert some.exemplar_hashes[slice(*new)] == vectors.exemplar_hashes[slice(*old)]
        assert some.exemplar_references[slice(*new)] == vectors.exemplar_references[slice(*old)]
        np.testing.assert_array_equal(some.exemplars[slice(*new)], vectors.exemplars[slice(*old)])
    assert len(some.bare) == sum(counts[row] for row in rows)
    assert some.offsets.dtype == some.exemplar_offsets.dtype == np.int64


def test_rows_get_unit_length_and_zeros_stay():
    rows = np.array([[[3.0, 4.0], [0.0, 0.0]], [[0.0, -2.0], [1e-3, 0.0]]], np.float32)
    found = normalize_rows(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[[0.6, 0.8], [0, 0]], [[0, -1], [1, 0]]], atol=1e-7)
