import numpy as np
import pytest

from recognizer.evidence import explain
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors

WEIGHTS = ScoreSettings(name=0.3, description=0.2, region=0.2, region_name=0.1, exemplar=0.2)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_contributions_add_up_to_the_score(seed, center):
    rng = np.random.default_rng(seed)
    vectors, features = make_vectors(rng, [3, 0, 1], [1, 2, 0]), make_features(rng)
    weights = WEIGHTS.model_copy(update={"center": center})
    scorer = Scorer(vectors, weights, reference=make_features(rng, images=5))
    exclude = ["hash 1", "", ""]
    scores = scorer.score(features, exclude=exclude)
    for image in range(3):
        for row, evidence in enumerate(explain(scorer, features, image, [0, 1, 2], exclude=exclude)):
            assert sum(piece.contribution for piece in evidence) == pytest.approx(scores[image, row], abs=1e-5)
            assert all(piece.contribution == piece.weight * piece.value for piece in evidence)
            assert sum(piece.weight for piece in evidence) == pytest.approx(1)


def test_planted_region_is_named_with_its_box():
    rng = np.random.default_rng(0)
    vectors, features = make_vectors(rng, [2, 1]), make_features(rng)
    features.region_weight[:] = [0.2, 1, 1, 1]
    features.regions[1, 3] = vectors.bare[1]
    evidence = explain(Scorer(vectors, WEIGHTS.only("region")), features, 1, [0])[0]
    assert evidence[0].description == "text 0 1"
    assert evidence[0].region == 3
    assert evidence[0].value == pytest.approx(1, abs=1e-6)
    assert evidence[0].box_xyxy == tuple(features.boxes_xyxy[1, 3].tolist())


def test_evidence_is_sorted_and_leaves_out_terms_without_weight():
    rng = np.random.default_rng(1)
    vectors, features = make_vectors(rng, [2]), make_features(rng)
    evidence = explain(Scorer(vectors, WEIGHTS.only("name", "region")), features, 0, [0])[0]
    assert {piece.term for piece in evidence} == {"name", "region"}
    contributions = [piece.contribution for piece in evidence]
    assert contributions == sorted(contributions, reverse=True)
