from dataclasses import replace

import numpy as np
import pytest

from recognizer.retrieval import ExactRetriever
from recognizer.score import PriorTerm, Scorer
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


def test_a_prior_multiplies_the_confidences_and_0_excludes():
    vectors, features = make_vectors(np.random.default_rng(0), [2, 0, 1, 3]), make_features(np.random.default_rng(1))
    plain = ExactRetriever(Scorer(vectors, WEIGHTS), TEMPERATURE).retrieve(features, 4)
    prior = np.array([0.0, 3.0, 1.0, 0.25])
    with np.errstate(divide="ignore"):
        scorer = Scorer(vectors, WEIGHTS, PriorTerm(np.log(prior / 1.5), TEMPERATURE))
    for before, after in zip(plain, ExactRetriever(scorer, TEMPERATURE).retrieve(features, 4), strict=True):
        product = np.zeros(4)
        product[before.rows] = before.confidences * prior[before.rows]
        product /= product.sum()
        assert after.rows.tolist() == np.argsort(-product)[:3].tolist()
        np.testing.assert_allclose(after.confidences, product[after.rows], rtol=1e-4)


def test_memory_without_categories_gives_nothing():
    scorer, features = make_scorer(5, []), make_features(np.random.default_rng(6))
    for found in ExactRetriever(scorer, TEMPERATURE).retrieve(features, 5):
        assert (len(found.rows), len(found.scores), len(found.confidences)) == (0, 0, 0)


def test_confidences_are_summed_by_group_over_all_categories():
    rng = np.random.default_rng(8)
    vectors, features = make_vectors(rng, [1, 0, 2, 1, 1, 0]), make_features(rng)
    groups = ["a", "b", "", "a", "c", "b"]
    categories = [replace(each, group=group) for each, group in zip(vectors.categories, groups, strict=True)]
    scorer = Scorer(replace(vectors, categories=categories), WEIGHTS)
    exact = ExactRetriever(scorer, TEMPERATURE)
    for k in (1, 6):
        for best, whole in zip(exact.retrieve(features, k), exact.retrieve(features, 6), strict=True):
            confidence = dict(zip(whole.rows.tolist(), whole.confidences, strict=True))
            sums = {name: sum(confidence[row] for row in range(6) if groups[row] == name) for name in "abc"}
            largest = sorted(sums, key=lambda name: -sums[name])
            shown = {*largest[:k], *(groups[row] for row in best.rows)} - {""}
            assert list(best.groups) == [name for name in largest if name in shown]
            assert best.groups == pytest.approx({name: sums[name] for name in shown}, rel=1e-6)


def test_without_groups_there_are_no_sums():
    scorer, features = make_scorer(9, [1, 1]), make_features(np.random.default_rng(10))
    assert ExactRetriever(scorer, TEMPERATURE).retrieve(features, 2)[0].groups is None
