from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer import score as score_module
from recognizer.score import Scorer, log_normaliser, max_over_regions, weigh
from recognizer.settings import TERMS, ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors, unit
from tests.reference import slow_scores

ALL_TERMS = ScoreSettings(
    image_name=0.4, image_description=0.2, region_description=0.3, region_name=0.1, region_threshold=0.5, head="proker"
)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    descriptions=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    exemplars=st.booleans(),
    chunk=st.integers(1, 5),
    rows=st.lists(st.integers(0, 5), max_size=8),
)
def test_folded_score_equals_the_weighed_terms_and_the_sum_in_loops(seed, descriptions, exemplars, chunk, rows):
    rng = np.random.default_rng(seed)
    examples = rng.integers(0, 5, len(descriptions)).tolist() if exemplars else None
    vectors, features = make_vectors(rng, descriptions, examples), make_features(rng)
    weights = ALL_TERMS.with_weights(rng.dirichlet(np.ones(4)).tolist())
    scorer = Scorer(vectors, weights)
    exclude = ["hash 0", "", "hash 1"]
    some = np.array([row % len(descriptions) for row in rows], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_module, "CHUNK_ROWS", chunk)
        folded = scorer.score(features, exclude=exclude)
        terms, exemplar = scorer.terms(features), scorer.exemplar_term(features.image, exclude)
        of_some = scorer.terms(features, some)
        np.testing.assert_allclose(scorer.score(features), slow_scores(vectors, features, weights), atol=2e-5)
    assert terms.shape == (3, len(descriptions), len(TERMS))
    assert terms.dtype == np.float32
    np.testing.assert_allclose(weigh(terms, weights) + exemplar, folded, atol=1e-5)
    np.testing.assert_allclose(of_some, terms[:, some], atol=1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_the_score_under_its_weight_alone(term):
    rng = np.random.default_rng(7)
    vectors, features = make_vectors(rng, [2, 0, 1], [1, 0, 2]), make_features(rng)
    alone = ALL_TERMS.only(term)
    terms = Scorer(vectors, ALL_TERMS).terms(features)
    np.testing.assert_allclose(terms[:, :, TERMS.index(term)], Scorer(vectors, alone).score(features), atol=1e-5)
    np.testing.assert_allclose(terms[:, :, TERMS.index(term)], slow_scores(vectors, features, alone), atol=1e-5)


def test_category_without_descriptions_competes_with_its_name():
    rng = np.random.default_rng(1)
    vectors, features = make_vectors(rng, [0]), make_features(rng)
    scores = Scorer(vectors, ScoreSettings().with_weights([0.25, 0.25, 0.25, 0.25])).score(features)
    names_only = Scorer(vectors, ScoreSettings().with_weights([0.5, 0, 0, 0.5])).score(features)
    np.testing.assert_allclose(scores, names_only, atol=1e-6)


def test_regions_of_low_weight_are_masked_and_not_multiplied():
    rng = np.random.default_rng(2)
    vectors, features = make_vectors(rng, [1]), make_features(rng, images=2)
    features.region_weight[0] = [0.9, 0.1, 0.1, 0.1]
    scores = Scorer(vectors, ScoreSettings().only("region_name")).score(features)
    assert scores[0, 0] == pytest.approx(float(features.regions[0, 0] @ vectors.names[0]), abs=1e-6)
    # no region above the threshold: the image itself stands in
    assert scores[1, 0] == pytest.approx(float(features.image[1] @ vectors.names[0]), abs=1e-6)


def test_region_whose_weight_is_the_threshold_is_visible():
    features = make_features(np.random.default_rng(8), images=1)
    features.region_weight[0] = [0.5, np.nextafter(np.float32(0.5), np.float32(0)), 0.75, 0]
    scorer = Scorer(make_vectors(np.random.default_rng(0), [1]), ScoreSettings(region_threshold=0.5))
    np.testing.assert_array_equal(scorer.visible_regions(features)[0], features.regions[0, [0, 2]])
    everything = Scorer(scorer.vectors, ScoreSettings(region_threshold=0.0))
    assert len(everything.visible_regions(features)[0]) == 4


def test_without_exemplars_or_with_the_head_off_scores_are_the_weighted_terms_to_the_last_bit():
    rng = np.random.default_rng(3)
    vectors, features = make_vectors(rng, [2, 0, 1], [1, 0, 2]), make_features(rng)
    bare = replace(
        vectors,
        exemplars=vectors.exemplars[:0],
        exemplar_offsets=np.zeros(4, np.int64),
        exemplar_hashes=[],
        exemplar_references=[],
    )
    off = Scorer(vectors, ALL_TERMS.model_copy(update={"head": "off"})).score(features)
    assert np.array_equal(Scorer(bare, ALL_TERMS).score(features), off)
    assert not np.array_equal(Scorer(vectors, ALL_TERMS).score(features), off)


def test_exemplar_that_is_the_image_itself_is_left_out():
    rng = np.random.default_rng(4)
    vectors = make_vectors(rng, [0, 0, 0], [1, 2, 2])
    scorer = Scorer(vectors, ALL_TERMS)
    images = vectors.exemplars[:1]
    assert scorer.exemplar_term(images)[0].argmax() == 0
    assert scorer.exemplar_term(images, ["hash 0"])[0].argmax() != 0
    assert np.array_equal(scorer.exemplar_term(images, ["another"]), scorer.exemplar_term(images))


@pytest.mark.parametrize("dim", [64, 509])
def test_an_image_s_scores_are_the_same_bytes_in_any_company(dim):
    rng = np.random.default_rng(7)
    scorer = Scorer(make_vectors(rng, [2] * 300, [1] * 200 + [0] * 100, dim=dim), ALL_TERMS)
    features = make_features(rng, images=19, regions=7, dim=dim)
    scores, terms = scorer.score(features), scorer.terms(features)
    for company in ([4], [4, 5], [18, 4, 0], rng.permutation(19).tolist()):
        own = features.take(np.array(company))
        assert np.array_equal(scorer.score(own), scores[company])
        assert np.array_equal(scorer.terms(own), terms[company])


def test_memory_without_categories_gives_no_scores():
    rng = np.random.default_rng(5)
    scorer = Scorer(make_vectors(rng, []), ALL_TERMS)
    assert scorer.score(make_features(rng)).shape == (3, 0)
    assert scorer.terms(make_features(rng)).shape == (3, 0, 4)


def test_confidences_over_all_categories_sum_to_one():
    scores = np.array([[0.1, 0.2, 0.9], [-1, 0, 1]], np.float32)
    confidences = np.exp(scores / 0.05 - log_normaliser(scores, 0.05)[:, None])
    np.testing.assert_allclose(confidences.sum(1), 1, atol=1e-6)


def test_each_image_takes_the_maximum_over_its_own_regions():
    rng = np.random.default_rng(6)
    regions, texts = [unit(rng, 1, 8), unit(rng, 3, 8)], unit(rng, 5, 8)
    expected = np.stack([(r @ texts.T).max(0) for r in regions])
    np.testing.assert_allclose(max_over_regions(regions, texts), expected, atol=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_image_without_regions_is_refused_and_gets_no_other_image_s(place):
    rng = np.random.default_rng(9)
    regions = [unit(rng, 2, 8), unit(rng, 2, 8)]
    regions.insert(place, unit(rng, 0, 8))
    with pytest.raises(ValueError, match="zero-size"):
        max_over_regions(regions, unit(rng, 3, 8))
