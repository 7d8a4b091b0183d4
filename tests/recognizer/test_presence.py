import numpy as np
import pytest

from recognizer.errors import RecognizerError
from recognizer.presence import PresenceScorer
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors

TEMPERATURE = 0.2


def slow_presence(scorer, image):
    """Per category the greatest of its probabilities in the visible regions, and the box of that region."""
    vectors, settings = scorer.vectors, scorer.settings
    texts = []
    for row, name in enumerate(vectors.names):
        own = vectors.bare[vectors.offsets[row] : vectors.offsets[row + 1]]
        mean = own.mean(0) if len(own) else name
        weights = np.array([settings.region_name, settings.region_description])
        texts.append((weights / weights.sum()) @ np.stack([name, mean]))
    visible = np.flatnonzero(image.region_weight[0] >= settings.region_threshold)
    regions = image.regions[0, visible] if len(visible) else image.image
    chances = np.exp(regions @ np.stack(texts).T / TEMPERATURE)
    chances /= chances.sum(1, keepdims=True)
    boxes = image.boxes_xyxy[0, visible] if len(visible) else [None]
    return chances.max(0), [boxes[region] for region in chances.argmax(0)]


@pytest.mark.parametrize("weights", [(0.2, 0.2, 0.4, 0.2), (0.5, 0, 0, 0.5), (0.5, 0, 0.5, 0)])
def test_presence_is_that_of_the_slow_version(weights):
    rng = np.random.default_rng(0)
    scorer = Scorer(make_vectors(rng, [2, 0, 1, 3, 1]), ScoreSettings().with_weights(weights))
    features = make_features(rng)  # the last image has no visible region
    for number in range(len(features)):
        image = features.take(number)
        presence, boxes = slow_presence(scorer, image)
        found = list(PresenceScorer(scorer, TEMPERATURE).at_least(image, 1e-9))
        assert [row for row, _, _ in found] == np.argsort(-presence).tolist()
        for row, chance, box_xyxy in found:
            assert chance == pytest.approx(presence[row], rel=1e-4)
            assert box_xyxy == (None if boxes[row] is None else pytest.approx(boxes[row]))
        bound = np.sort(presence)[-2] - 1e-6
        assert len(list(PresenceScorer(scorer, TEMPERATURE).at_least(image, bound))) == 2


def test_two_objects_in_two_regions_are_both_certain_though_confidences_sum_to_one():
    rng = np.random.default_rng(1)
    vectors, features = make_vectors(rng, [0] * 20, dim=64), make_features(rng, images=1, dim=64)
    features.region_weight[:] = 1
    features.regions[0, 0], features.regions[0, 3] = vectors.names[4], vectors.names[9]
    found = list(PresenceScorer(Scorer(vectors, ScoreSettings()), 0.05).at_least(features, 0.9))
    assert {row for row, _, _ in found} == {4, 9}
    assert {box for _, _, box in found} == {tuple(map(float, features.boxes_xyxy[0, region])) for region in (0, 3)}


def test_a_memory_without_categories_shows_nothing():
    rng = np.random.default_rng(2)
    scorer = PresenceScorer(Scorer(make_vectors(rng, []), ScoreSettings()), TEMPERATURE)
    assert list(scorer.at_least(make_features(rng, images=1), 0.5)) == []


def test_without_weight_for_regions_several_labels_are_refused():
    scorer = Scorer(make_vectors(np.random.default_rng(3), [1]), ScoreSettings().only("image_name"))
    with pytest.raises(RecognizerError, match=r"region_name and score\.region_description are 0"):
        PresenceScorer(scorer, TEMPERATURE)
