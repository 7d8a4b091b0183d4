import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.calibration import terms as terms_module
from recognizer.calibration.terms import TERMS, UNKNOWN, TermScorer, TermTable, distinct_terms, make_table
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    descriptions=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    exemplars=st.booleans(),
    center=st.booleans(),
)
def test_weighted_terms_add_up_to_the_score(seed, descriptions, exemplars, center):
    rng = np.random.default_rng(seed)
    examples = rng.integers(0, 5, len(descriptions)).tolist() if exemplars else None
    vectors = make_vectors(rng, descriptions, exemplar_counts=examples)
    features, reference = make_features(rng), make_features(rng, images=4)
    weights = rng.dirichlet(np.ones(5))
    setting = ScoreSettings(**dict(zip(TERMS, weights.tolist(), strict=True)), center=center)
    own = ["hash 0", "", "hash 1"]
    values = TermScorer(vectors, setting, reference=reference).terms(features, exclude=own)
    score = Scorer(vectors, setting, reference=reference).score(features, exclude=own)
    assert values.shape == (3, len(descriptions), 5)
    np.testing.assert_allclose(values @ weights, score, atol=1e-5)


def test_terms_that_repeat_others_are_named():
    rng = np.random.default_rng(0)
    assert distinct_terms(make_vectors(rng, [0, 0])) == ("name", "region_name")
    assert distinct_terms(make_vectors(rng, [0, 1])) == TERMS[:4]
    assert distinct_terms(make_vectors(rng, [0, 1], [1, 1])) == TERMS


def test_small_memory_is_kept_whole():
    values = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    table = make_table(values, np.array([3, UNKNOWN]), np.random.default_rng(0))
    np.testing.assert_array_equal(table.values, values)
    np.testing.assert_array_equal(table.categories, [np.arange(7)] * 2)
    assert not table.log_offset.any()
    assert table.true_categories().tolist() == [3, UNKNOWN]


@pytest.fixture
def small_limits(monkeypatch):
    for name, value in (("KEEP_ALL", 50), ("BEST", 4), ("OTHERS", 10)):
        monkeypatch.setattr(terms_module, name, value)


def test_large_memory_keeps_the_best_the_truth_and_a_sample(small_limits):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 200, 5)).astype(np.float32)
    worst = int(values[0].sum(1).argmin())
    table = make_table(values, np.array([worst, 5, UNKNOWN]), rng)
    assert table.true_categories().tolist() == [worst, 5, UNKNOWN]
    for image in range(3):
        used = np.isfinite(table.log_offset[image])
        kept = table.categories[image][used]
        assert (np.diff(kept) > 0).all()
        np.testing.assert_array_equal(table.values[image][used], values[image, kept])
        best = {int(c) for term in range(5) for c in np.argsort(-values[image, :, term])[:4]}
        assert best <= set(kept.tolist())
        sampled = table.log_offset[image][used] > 0
        assert sampled.sum() == 10
        rest = 200 - (~sampled).sum()
        np.testing.assert_allclose(table.log_offset[image][used][sampled], np.log(rest / 10))
        assert (table.categories[image][~used] == -1).all()


def test_sum_over_the_kept_is_an_unbiased_estimate_of_the_sum_over_all(small_limits):
    values = np.random.default_rng(2).normal(size=(1, 300, 5)).astype(np.float32)
    slopes = np.array([0.5, 0.2, 0.1, 0.4, 0.3])
    taken_out = np.arange(0, 300, 3)
    whole = np.exp(values[0] @ slopes)
    remaining = np.delete(whole, taken_out)
    rng = np.random.default_rng(3)
    estimates, without = [], []
    for _ in range(400):
        table = make_table(values, np.array([7]), rng)
        estimates.append(np.exp(table.values[0] @ slopes + table.log_offset[0]).sum())
        fewer = table.without(taken_out)
        without.append(np.exp(fewer.values[0] @ slopes + fewer.log_offset[0]).sum())
    for found, exact in ((estimates, whole.sum()), (without, remaining.sum())):
        error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) == pytest.approx(exact, abs=4 * error)
        assert error < 0.02 * exact


def test_category_taken_out_leaves_every_softmax_and_its_images_are_unknown():
    values = np.zeros((3, 4, 5), np.float32)
    table = make_table(values, np.array([0, 2, 1]), np.random.default_rng(0)).without(np.array([2]))
    assert table.truth.tolist() == [0, UNKNOWN, 1]
    assert table.known.tolist() == [True, False, True]
    assert np.isneginf(table.log_offset[:, 2]).all()
    assert np.isfinite(np.delete(table.log_offset, 2, axis=1)).all()


def test_joining_fills_up_the_narrower_table():
    wide = make_table(np.ones((1, 3, 5), np.float32), np.array([2]), np.random.default_rng(0))
    narrow = make_table(np.ones((2, 2, 5), np.float32), np.array([1, 0]), np.random.default_rng(0))
    both = TermTable.concatenate([wide, narrow])
    assert both.categories.tolist() == [[0, 1, 2], [0, 1, -1], [0, 1, -1]]
    assert both.log_offset[1].tolist() == [0, 0, -np.inf]
    assert both.true_categories().tolist() == [2, 1, 0]
