import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.index import CHUNK_ROWS, ExactIndex, best_columns, gpu_count, inner_products, recall_at_k
from tests.reference import nearest_rows


def rows_of(count, dim=24, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("rows", "k"), [(1, 1), (9, 10), (10, 10), (500, 7), (500, 500), (0, 3)])
def test_the_best_rows_come_first_and_never_more_than_there_are(rows, k):
    vectors, queries = rows_of(rows), rows_of(5, seed=1)
    scores, found = ExactIndex(vectors).search(queries, k)
    expected = nearest_rows(queries, vectors, k)
    assert found.shape == scores.shape == (5, min(k, rows))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, expected, axis=1), atol=1e-6)


def test_chunks_change_nothing(monkeypatch):
    vectors, queries = rows_of(1000), rows_of(6, seed=1)
    expected = ExactIndex(vectors).search(queries, 20)
    monkeypatch.setattr("memory.index.CHUNK_ROWS", 64)
    assert CHUNK_ROWS > 1000
    for one, other in zip(ExactIndex(vectors).search(queries, 20), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("chunk", [7, 65_536])
def test_of_equal_scores_the_lower_row_comes_first(chunk, monkeypatch):
    monkeypatch.setattr("memory.index.CHUNK_ROWS", chunk)
    vectors = np.zeros((50, 4), np.float32)
    vectors[:, 0] = np.arange(50) % 2
    _, rows = ExactIndex(vectors).search(np.eye(1, 4, dtype=np.float32), 30)
    assert rows[0].tolist() == [*range(1, 50, 2), 0, 2, 4, 6, 8]


def test_queries_that_are_not_numbers_or_of_another_size_are_refused():
    index = ExactIndex(rows_of(5))
    with pytest.raises(ValueError, match="NaN or infinity"):
        index.search(np.full((1, 24), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        index.search(np.ones((1, 3), np.float32), 1)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(rows_of(1), 0)


@settings(max_examples=40)
@given(
    st.integers(1, 70), st.sampled_from([1, 2, 5, 40, 500]), st.sampled_from([8, 384, 512]), st.integers(0, 2**32 - 1)
)
def test_a_row_of_products_does_not_depend_on_the_other_queries(number, columns, dim, seed):
    generator = np.random.default_rng(seed)
    queries = generator.normal(size=(200, dim)).astype(np.float32)
    vectors = generator.normal(size=(columns, dim)).astype(np.float32)
    expected = inner_products(queries, vectors)
    np.testing.assert_allclose(expected, queries @ vectors.T, rtol=1e-3, atol=1e-3)
    chosen = generator.permutation(200)[:number]
    assert np.array_equal(inner_products(queries[chosen], vectors), expected[chosen])


@pytest.mark.gpu
def test_a_gpu_finds_the_rows_of_the_cpu(cuda, monkeypatch):
    vectors, queries = rows_of(20_000, 384), rows_of(40, 384, seed=1)
    vectors[7:11] = vectors[3]  # ties
    queries[0] = vectors[3]
    assert gpu_count()
    found = ExactIndex(vectors).search(queries, 10)
    monkeypatch.setattr("memory.index.gpu_count", lambda: 0)
    scores, rows = ExactIndex(vectors).search(queries, 10)
    np.testing.assert_array_equal(found[1], rows)
    np.testing.assert_allclose(found[0], scores, atol=1e-5)


def test_products_with_nothing_are_empty():
    assert inner_products(np.zeros((2, 8), np.float32), np.zeros((0, 8), np.float32)).shape == (2, 0)
    assert inner_products(np.zeros((0, 8), np.float32), np.zeros((3, 8), np.float32)).shape == (0, 3)


def test_products_are_inner_products():
    queries, vectors = rows_of(3), 2 * rows_of(8, seed=1)
    np.testing.assert_allclose(inner_products(queries, vectors), queries @ vectors.T, atol=1e-6)


def test_recall_counts_what_is_missing():
    vectors, queries = rows_of(200), rows_of(20, seed=1)
    scores, _ = ExactIndex(vectors).search(queries, 5)
    assert recall_at_k(scores[:, :4], scores[:, :4]) == 1.0
    assert recall_at_k(scores[:, 1:], scores[:, :4]) == pytest.approx(0.75)
    assert recall_at_k(np.full((20, 4), -np.inf, np.float32), scores[:, :4]) == 0
    assert recall_at_k(scores[:0], scores[:0]) == 1.0


def test_rows_of_fp16_are_read_in_parts():
    vectors, queries = rows_of(50).astype(np.float16), rows_of(3, seed=1)
    scores, rows = ExactIndex(vectors).search(queries, 4)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(rows, nearest_rows(queries, vectors.astype(np.float32), 4))


def test_best_columns_settles_ties_by_column():
    scores = np.array([[1, 3, 2, 3, 3, 0]], np.float32)
    assert best_columns(scores, 2).tolist() == [[1, 3]]
    assert best_columns(scores, 4).tolist() == [[1, 3, 4, 2]]


@pytest.mark.parametrize(("columns", "k", "found"), [(0, 5, 0), (3, 5, 3), (3, 1, 1)])
def test_best_columns_returns_what_there_is(columns, k, found):
    assert best_columns(np.zeros((2, columns), np.float32), k).shape == (2, found)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 40))
def test_best_columns_equals_a_stable_sort(values, k):
    expected = sorted(range(len(values)), key=lambda column: -values[column])[:k]
    assert best_columns(np.array([values], np.float32), k)[0].tolist() == expected
