from dataclasses import replace

import numpy as np
import pytest

from memory.search import Fold, exact_index
from recognizer.retrieval import ApproximateRetriever, ExactRetriever
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors

WEIGHTS = ScoreSettings().with_weights([0.4, 0.2, 0.3, 0.1])
TEMPERATURE = 0.1


def make_scorer(seed, descriptions, exemplars=None):
    return Scorer(make_vectors(np.random.default_rng(seed), descriptions, exemplars), WEIGHTS)


def test_exact_search_returns_the_best_scores_and_their_softmax_over_all_categories():
    scorer, features = make_scorer(0, [2, 0, 1, 3, 1]), make_features(np.random.default_rng(1))
    scores = scorer.score(features)
    softmax = np.exp(scores / TEMPERATURE) / np.exp(scores / TEMPERATURE).sum(1, keepdims=True)
    for image, found in enumerate(ExactRetriever(scorer, TEMPERATURE).retrieve(features, 3)):
        expected = np.argsort(-scores[image])[:3]
        np.testing.assert_array_equal(found.rows, expected)
        np.testing.assert_array_equal(found.scores, scores[image, expected])
        np.testing.assert_allclose(found.confidences, softmax[image, expected], rtol=1e-4)


def test_approximate_search_that_proposes_everything_is_exact_search():
    scorer, features = make_scorer(2, [2, 0, 1], [1, 2, 1]), make_features(np.random.default_rng(3))
    index = exact_index(scorer.vectors, scorer.fold)
    approximate = ApproximateRetriever(scorer, TEMPERATURE, index)
    exclude = ["hash 0", "", "hash 2"]
    exact = ExactRetriever(scorer, TEMPERATURE).retrieve(features, 3, exclude=exclude)
    for one, other in zip(approximate.retrieve(features, 3, exclude=exclude), exact, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.confidences, other.confidences, rtol=1e-3)


def test_approximate_search_proposes_what_only_a_region_resembles():
    rng = np.random.default_rng(4)
    vectors, features = make_vectors(rng, [1] * 40), make_features(rng, images=1)
    features.region_weight[:] = 1
    features.image[0] = vectors.names[0]
    features.regions[0, 2] = vectors.bare[39]
    scorer = Scorer(vectors, ScoreSettings().only("region_description"))
    index = exact_index(vectors, Fold())
    found = ApproximateRetriever(scorer, TEMPERATURE, index, depth=1).retrieve(features, 1)[0]
    assert found.rows.tolist() == [39]
    assert found.scores[0] == pytest.approx(1, abs=1e-5)


def test_memory_without_categories_gives_nothing():
    scorer, features = make_scorer(5, []), make_features(np.random.default_rng(6))
    for found in ExactRetriever(scorer, TEMPERATURE).retrieve(features, 5):
        assert (len(found.rows), len(found.scores), len(found.confidences)) == (0, 0, 0)


def test_key_of_the_fold_changes_with_its_two_weights_alone():
    vectors = make_vectors(np.random.default_rng(7), [1])

    def key(*weights):
        return Scorer(vectors, WEIGHTS.with_weights(weights)).fold.key

    assert key(0.3, 0.2, 0.2, 0.3) == "name=0.300000 description=0.200000"  # stored indexes carry it
    assert key(0.3, 0.2, 0.1, 0.4) == key(0.3, 0.2, 0.2, 0.3)
    assert key(0.2, 0.3, 0.2, 0.3) != key(0.3, 0.2, 0.2, 0.3)


def test_confidences_are_summed_by_group_over_all_categories():
    rng = np.random.default_rng(8)
    vectors, features = make_vectors(rng, [1, 0, 2, 1, 1, 0]), make_features(rng)
    groups = ["a", "b", "", "a", "c", "b"]
    categories = [replace(each, group=group) for each, group in zip(vectors.categories, groups, strict=True)]
    scorer = Scorer(replace(vectors, categories=categories), WEIGHTS)
    exact = ExactRetriever(scorer, TEMPERATURE)
    index = exact_index(scorer.vectors, scorer.fold)
    for k in (1, 6):
        approximate = ApproximateRetriever(scorer, TEMPERATURE, index).retrieve(features, 6)
        for best, whole, other in zip(
            exact.retrieve(features, k), exact.retrieve(features, 6), approximate, strict=True
        ):
            confidence = dict(zip(whole.rows.tolist(), whole.confidences, strict=True))
            sums = {name: sum(confidence[row] for row in range(6) if groups[row] == name) for name in "abc"}
            largest = sorted(sums, key=lambda name: -sums[name])
            shown = {*largest[:k], *(groups[row] for row in best.rows)} - {""}
            assert list(best.groups) == [name for name in largest if name in shown]
            assert best.groups == pytest.approx({name: sums[name] for name in shown}, rel=1e-6)
            assert other.groups == pytest.approx(whole.groups, rel=1e-3)


def test_without_groups_there_are_no_sums():
    scorer, features = make_scorer(9, [1, 1]), make_features(np.random.default_rng(10))
    assert ExactRetriever(scorer, TEMPERATURE).retrieve(features, 2)[0].groups is None
