from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.mapped import DamagedBlock
from memory.search import exact_index
from recognizer.approximate import ALIKE, ApproximateRetriever, distinct
from recognizer.retrieval import ExactRetriever
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors

WEIGHTS = ScoreSettings().with_weights([0.4, 0.2, 0.3, 0.1])
TEMPERATURE = 0.1


def make_scorer(seed, descriptions, exemplars=None, settings=WEIGHTS):
    return Scorer(make_vectors(np.random.default_rng(seed), descriptions, exemplars), settings)


def make_retriever(scorer, depth, **options):
    index = exact_index(scorer.vectors, scorer.fold)
    return ApproximateRetriever(scorer, TEMPERATURE, index, depth=depth, **options)


@pytest.mark.parametrize("depth", [1, 3])
def test_search_that_proposes_enough_is_exact_search(depth):
    scorer, features = make_scorer(2, [2, 0, 1], [1, 2, 1]), make_features(np.random.default_rng(3))
    exclude = ["hash 0", "", "hash 2"]
    exact = ExactRetriever(scorer, TEMPERATURE).retrieve(features, 3, exclude=exclude)
    found = make_retriever(scorer, depth).retrieve(features, 3, exclude=exclude)
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.confidences, other.confidences, rtol=1e-3)


def test_what_only_a_region_resembles_is_proposed():
    rng = np.random.default_rng(4)
    vectors, features = make_vectors(rng, [1] * 40), make_features(rng, images=1)
    features.region_weight[:] = 1
    features.image[0] = vectors.names[0]
    features.regions[0, 2] = vectors.bare[39]
    scorer = Scorer(vectors, ScoreSettings().only("region_description"))
    found = make_retriever(scorer, 1).retrieve(features, 1)[0]
    assert found.rows.tolist() == [39]
    assert found.scores[0] == pytest.approx(1, abs=1e-5)


def test_regions_that_show_the_same_are_looked_up_once():
    rng = np.random.default_rng(12)
    others = rng.standard_normal((3, 64)).astype(np.float32)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    like = others[1] + 0.005 * rng.standard_normal((2, 64)).astype(np.float32)
    like /= np.linalg.norm(like, axis=1, keepdims=True)
    assert (like @ others[1]).min() > ALIKE
    np.testing.assert_array_equal(distinct(others), others)
    found = distinct(np.concatenate([others, like]))
    np.testing.assert_array_equal(found[[0, 2]], others[[0, 2]])
    mean = np.mean([others[1], *like], axis=0)
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(distinct(np.zeros((1, 4), np.float32)), np.zeros((1, 4)))


@given(st.integers(1, 12), st.integers(0, 50))
def test_each_region_is_near_what_is_looked_up_for_it(number, seed):
    rng = np.random.default_rng(seed)
    regions = rng.standard_normal(32) + 0.1 * rng.standard_normal((number, 32))
    regions = (regions / np.linalg.norm(regions, axis=1, keepdims=True)).astype(np.float32)
    nearest = (regions @ distinct(regions).T).max(axis=1)
    assert (nearest >= 2 * ALIKE**2 - 1).all()  # twice the angle of `ALIKE`


@pytest.mark.parametrize("temperature", [0.03, 0.1, 1.0])
def test_confidences_are_those_over_all_categories(temperature):
    """Of 6,000 categories few are proposed, and a sixth is sampled."""
    settings = WEIGHTS.model_copy(update={"head": "off"})
    scorer, features = make_scorer(5, [1] * 6000, settings=settings), make_features(np.random.default_rng(6), images=8)
    exact = ExactRetriever(scorer, temperature).retrieve(features, 10)
    index = exact_index(scorer.vectors, scorer.fold)
    retriever = ApproximateRetriever(scorer, temperature, index, depth=100, sampled=1000)
    for one, other in zip(retriever.retrieve(features, 10), exact, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.confidences, other.confidences, atol=0.02)
        assert one.confidences[0] == pytest.approx(other.confidences[0], rel=0.1)


def test_confidences_are_summed_by_group_over_the_sample_as_well():
    scorer = make_scorer(8, [1] * 600, settings=WEIGHTS.model_copy(update={"head": "off"}))
    groups = [("a", "b", "", "c")[row % 4] for row in range(600)]
    categories = [replace(each, group=group) for each, group in zip(scorer.vectors.categories, groups, strict=True)]
    scorer = Scorer(replace(scorer.vectors, categories=categories), scorer.settings)
    features = make_features(np.random.default_rng(9))
    exact = ExactRetriever(scorer, TEMPERATURE).retrieve(features, 4)
    for sampled, tolerance in ((600, 1e-2), (200, 0.25)):
        for one, other in zip(make_retriever(scorer, 20, sampled=sampled).retrieve(features, 4), exact, strict=True):
            assert {name: pytest.approx(share, rel=tolerance) for name, share in other.groups.items()} == one.groups


def test_an_image_gets_the_same_beside_others():
    scorer, features = make_scorer(10, [1, 2, 0] * 30), make_features(np.random.default_rng(11))
    retriever = make_retriever(scorer, 5, sampled=50)
    together = retriever.retrieve(features, 5)
    for image, one in enumerate(together):
        (alone,) = retriever.retrieve(features.take(image), 5)
        assert alone.rows.tolist() == one.rows.tolist()
        assert alone.confidences.tolist() == one.confidences.tolist()


def test_a_damaged_index_is_built_again():
    scorer, features = make_scorer(12, [1] * 9), make_features(np.random.default_rng(13))
    whole = exact_index(scorer.vectors, scorer.fold)

    class Damaged:
        """An index whose file has changed."""

        size = 9

        def search(self, queries, k):
            raise DamagedBlock("damaged")

    damaged = replace(whole, main=Damaged())
    retriever = ApproximateRetriever(scorer, TEMPERATURE, damaged, depth=2, renew=lambda: whole)
    assert len(retriever.retrieve(features, 2)) == 3
    with pytest.raises(DamagedBlock):
        ApproximateRetriever(scorer, TEMPERATURE, damaged, depth=2).retrieve(features, 2)


def test_several_threads_find_the_same_and_renew_once(monkeypatch):
    scorer, features = make_scorer(14, [1] * 60, [2] * 60), make_features(np.random.default_rng(15), images=40)
    whole, renewed = exact_index(scorer.vectors, scorer.fold), []

    class Damaged:
        """An index whose file has changed."""

        size = 60

        def search(self, queries, k):
            raise DamagedBlock("damaged")

    def renew():
        renewed.append(whole)
        return whole

    expected = make_retriever(scorer, 5).retrieve(features, 3)
    with ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr("recognizer.cores.core_pool", lambda: pool)
        retriever = ApproximateRetriever(scorer, TEMPERATURE, replace(whole, main=Damaged()), depth=5, renew=renew)
        found = retriever.retrieve(features, 3)
    assert len(renewed) == 1
    for one, other in zip(found, expected, strict=True):
        assert (one.rows.tobytes(), one.scores.tobytes()) == (other.rows.tobytes(), other.scores.tobytes())


def test_a_memory_without_categories_gives_nothing():
    scorer, features = make_scorer(5, []), make_features(np.random.default_rng(6))
    assert [len(found.rows) for found in make_retriever(scorer, 2).retrieve(features, 5)] == [0, 0, 0]
