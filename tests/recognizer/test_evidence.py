import numpy as np
import pytest

from recognizer.evidence import explain
from recognizer.score import Scorer
from recognizer.settings import TERMS, ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors

WEIGHTS = ScoreSettings(image_name=0.4, image_description=0.2, region_description=0.3, region_name=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_contributions_add_up_to_the_score_and_to_its_terms(seed):
    rng = np.random.default_rng(seed)
    vectors, features = make_vectors(rng, [3, 0, 1], [3, 5, 0]), make_features(rng)
    scorer = Scorer(vectors, WEIGHTS)
    exclude = ["hash 1", "", ""]
    scores = scorer.score(features, exclude=exclude)
    terms, exemplar = scorer.terms(features), scorer.exemplar_term(features.image, exclude)
    for image in range(3):
        for row, evidence in zip([2, 0, 1], explain(scorer, features, image, [2, 0, 1], exclude=exclude), strict=True):
            assert sum(piece.contribution for piece in evidence) == pytest.approx(scores[image, row], abs=1e-5)
            assert all(piece.contribution == piece.weight * piece.value for piece in evidence)
            assert sum(piece.weight for piece in evidence if piece.term in TERMS) == pytest.approx(1)
            heads = [piece for piece in evidence if piece.term == "exemplar"]
            assert sum(piece.contribution for piece in heads) == pytest.approx(exemplar[image, row], abs=1e-5)
            assert [piece.description for piece in heads].count("(all other exemplars)") == 1
            assert len({piece.description for piece in heads}) == len(heads) == 4
            for number, term in enumerate(TERMS):
                total = sum(piece.contribution for piece in evidence if piece.term == term)
                expected = WEIGHTS.weights()[number] * terms[image, row, number]
                assert total == pytest.approx(expected, abs=1e-5)


def test_planted_region_is_named_with_its_box():
    rng = np.random.default_rng(0)
    vectors, features = make_vectors(rng, [2, 1]), make_features(rng)
    features.region_weight[:] = [0.2, 1, 1, 1]
    features.regions[1, 3] = vectors.bare[1]
    evidence = explain(Scorer(vectors, WEIGHTS.only("region_description")), features, 1, [0])[0]
    assert evidence[0].description == "text 0 1"
    assert evidence[0].region == 3
    assert evidence[0].value == pytest.approx(1, abs=1e-6)
    assert evidence[0].box_xyxy == tuple(features.boxes_xyxy[1, 3].tolist())


def test_image_stands_in_where_no_region_is_visible():
    rng = np.random.default_rng(2)
    vectors, features = make_vectors(rng, [1]), make_features(rng)
    piece = explain(Scorer(vectors, WEIGHTS.only("region_name")), features, 2, [0])[0][0]
    assert (piece.region, piece.box_xyxy, piece.description) == (None, None, "name 0")
    assert piece.value == pytest.approx(float(features.image[2] @ vectors.names[0]), abs=1e-6)


def test_evidence_names_the_exemplars_that_weigh_most():
    rng = np.random.default_rng(3)
    vectors, features = make_vectors(rng, [0, 0, 0], [2, 3, 0]), make_features(rng)
    features.image[0] = vectors.exemplars[3]
    own, other = explain(Scorer(vectors, WEIGHTS), features, 0, [1, 2])
    assert (own[0].term, own[0].description) == ("exemplar", "photo 3")
    assert own[0].value == pytest.approx(1, abs=1e-5)
    assert own[0].weight > 0
    # a category without exemplars hears of those of others
    assert {"photo 3", "(all other exemplars)"} <= {piece.description for piece in other}


def test_evidence_is_sorted_and_leaves_out_terms_without_weight():
    rng = np.random.default_rng(1)
    vectors, features = make_vectors(rng, [2]), make_features(rng)
    evidence = explain(Scorer(vectors, WEIGHTS.only("image_name", "region_description")), features, 0, [0])[0]
    assert {piece.term for piece in evidence} == {"image_name", "region_description"}
    contributions = [piece.contribution for piece in evidence]
    assert contributions == sorted(contributions, reverse=True)
