import numpy as np
import pytest

from memory import Category, Description, Memory
from memory.columns import names_and_groups
from memory.index import inner_products
from memory.search import Fold
from memory.vectors import equal_vectors
from tests.memory.building import build, exemplar_set


@pytest.fixture(params=["as built", "edited"])
def both(request, directory, encoder, monkeypatch):
    """The vectors of one memory, read whole and part by part; when it was edited, its rows are not stored in order."""
    categories = [
        Category(f"thing {n}", "even" * (n % 2 == 0), tuple(Description(f"d{n}{m}") for m in range(n % 4)))
        for n in range(25)
    ]
    memory = build(categories, directory, encoder, exemplars=exemplar_set(categories[:3], 2))
    if request.param == "edited":
        memory.remove(["thing 3", "thing 8"])
        memory.add([Category("thing 99", descriptions=(Description("x"),)), categories[3]], encoder=encoder)
    whole = Memory.open(directory).vectors
    monkeypatch.setattr("memory.columns.LOADED_BYTES", 0)
    return whole, Memory.open(directory).vectors


def test_a_large_memory_is_that_of_a_small_one(both):
    whole, parts = both
    assert isinstance(whole.names, np.ndarray)
    assert not isinstance(parts.names, np.ndarray)
    assert equal_vectors(whole, parts)
    for name in ("names", "grounded", "bare"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert one.shape == other.shape
        for index in (0, -1, slice(2, 9), [3, 3, 0], np.array([], np.int64)):
            np.testing.assert_array_equal(one[index], other[index])
        np.testing.assert_array_equal(np.asarray(other), one)
    rows = np.array([1, 4, 9], np.int64)
    assert equal_vectors(whole.take(rows), parts.take(rows))


def test_categories_and_texts_are_sequences(both):
    whole, parts = both
    assert list(parts.categories[3:7]) == whole.categories[3:7]
    assert [parts.categories[place] for place in (0, 5, -1)] == [whole.categories[place] for place in (0, 5, -1)]
    assert list(parts.categories[::5]) == whole.categories[::5]
    assert [list(texts) for texts in names_and_groups(parts.categories)] == [*names_and_groups(whole.categories)]
    assert names_and_groups(whole.categories)[0][:2] == [category.name for category in whole.categories[:2]]
    assert parts.descriptions[2:5] == whole.descriptions[2:5]
    assert parts.descriptions[-1] == whole.descriptions[-1]
    assert list(parts.categories[4:4]) == []
    with pytest.raises(IndexError):
        parts.categories[len(whole.categories)]


def test_products_and_folds_are_those_of_the_whole(both, monkeypatch):
    whole, parts = both
    queries = whole.names[:3]
    np.testing.assert_allclose(inner_products(queries, parts.bare), inner_products(queries, whole.bare), atol=1e-6)
    fold = Fold(0.3, 0.7)
    expected = fold.rows(whole)
    np.testing.assert_array_equal(fold.rows(parts), expected)
    for constant in ("memory.vectors.ROWS_AT_A_TIME", "memory.index.ROWS_AT_A_TIME", "memory.index.CHUNK_ROWS"):
        monkeypatch.setattr(constant, 4)
    np.testing.assert_array_equal(fold.rows(parts), expected)
    np.testing.assert_allclose(inner_products(queries, parts.bare), inner_products(queries, whole.bare), atol=1e-6)
