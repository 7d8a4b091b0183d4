import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer import score as score_module
from recognizer.score import Scorer, log_normaliser, max_over_regions
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors, unit
from tests.reference import slow_bias, slow_scores

ALL_TERMS = ScoreSettings(name=0.3, description=0.2, region=0.2, region_name=0.1, exemplar=0.2, region_threshold=0.5)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    descriptions=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    chunk=st.integers(1, 5),
    center=st.booleans(),
)
def test_scores_equal_the_sum_written_out_in_loops(seed, descriptions, chunk, center):
    rng = np.random.default_rng(seed)
    vectors = make_vectors(rng, descriptions, exemplar_counts=rng.integers(0, 5, len(descriptions)).tolist())
    features, reference = make_features(rng), make_features(rng, images=4)
    weights = ALL_TERMS.model_copy(update={"center": center})
    before, score_module.CHUNK_ROWS = score_module.CHUNK_ROWS, chunk
    try:
        scores = Scorer(vectors, weights, reference=reference).score(features)
    finally:
        score_module.CHUNK_ROWS = before
    bias = slow_bias(vectors, reference, weights) if center else None
    np.testing.assert_allclose(scores, slow_scores(vectors, features, weights, bias), atol=2e-6)


def test_scoring_some_categories_equals_scoring_all():
    rng = np.random.default_rng(0)
    vectors, features = make_vectors(rng, [2, 0, 1, 3], [1, 0, 2, 0]), make_features(rng)
    scorer = Scorer(vectors, ALL_TERMS)
    whole = scorer.score(features, exclude=["hash 0", "", ""])
    for image in range(3):
        some = scorer.score_some(features, image, np.array([3, 0, 1]), exclude=["hash 0", "", ""])
        np.testing.assert_allclose(some, whole[image, [3, 0, 1]], atol=1e-6)


def test_category_without_descriptions_competes_with_its_name():
    rng = np.random.default_rng(1)
    vectors, features = make_vectors(rng, [0]), make_features(rng)
    scores = Scorer(vectors, ScoreSettings(name=0.25, description=0.25, region=0.25, region_name=0.25)).score(features)
    names_only = Scorer(vectors, ScoreSettings(name=0.5, description=0, region=0, region_name=0.5)).score(features)
    np.testing.assert_allclose(scores, names_only, atol=1e-6)


def test_regions_of_low_weight_are_masked_and_not_multiplied():
    rng = np.random.default_rng(2)
    vectors, features = make_vectors(rng, [1]), make_features(rng, images=2)
    features.region_weight[0] = [0.9, 0.1, 0.1, 0.1]
    term = ScoreSettings(name=0, description=0, region=0, region_name=1)
    scores = Scorer(vectors, term).score(features)
    assert scores[0, 0] == pytest.approx(float(features.regions[0, 0] @ vectors.names[0]), abs=1e-6)
    # no region above the threshold: the image itself stands in
    assert scores[1, 0] == pytest.approx(float(features.image[1] @ vectors.names[0]), abs=1e-6)


def test_having_one_exemplar_is_no_advantage_in_itself():
    rng = np.random.default_rng(3)
    vectors = make_vectors(rng, [0] * 200, [1] * 100 + [0] * 100, dim=64)
    scorer = Scorer(vectors, ALL_TERMS.only("exemplar"))
    term = scorer.exemplar_term(unit(rng, 50, 64))
    assert (term[:, 100:] == 0).all()
    np.testing.assert_allclose(term[:, :100].mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(term[:, :100].std(1), 1, atol=1e-5)


def test_exemplar_that_is_the_image_itself_is_left_out():
    rng = np.random.default_rng(4)
    vectors = make_vectors(rng, [0, 0, 0], [1, 2, 2])
    images = vectors.exemplars[:1]
    scorer = Scorer(vectors, ALL_TERMS.only("exemplar"))
    assert scorer.exemplar_term(images)[0].argmax() == 0
    assert scorer.exemplar_term(images, ["hash 0"])[0, 0] == 0


def test_memory_without_categories_gives_no_scores():
    rng = np.random.default_rng(5)
    assert Scorer(make_vectors(rng, []), ALL_TERMS).score(make_features(rng)).shape == (3, 0)


def test_centring_needs_a_reference():
    with pytest.raises(ValueError, match="reference"):
        Scorer(make_vectors(np.random.default_rng(0), [1]), ScoreSettings(center=True))


def test_confidences_over_all_categories_sum_to_one():
    scores = np.array([[0.1, 0.2, 0.9], [-1, 0, 1]], np.float32)
    confidences = np.exp(scores / 0.05 - log_normaliser(scores, 0.05)[:, None])
    np.testing.assert_allclose(confidences.sum(1), 1, atol=1e-6)


def test_each_image_takes_the_maximum_over_its_own_regions():
    rng = np.random.default_rng(6)
    regions, texts = [unit(rng, 1, 8), unit(rng, 3, 8)], unit(rng, 5, 8)
    expected = np.stack([(r @ texts.T).max(0) for r in regions])
    np.testing.assert_allclose(max_over_regions(regions, texts), expected, atol=1e-6)
