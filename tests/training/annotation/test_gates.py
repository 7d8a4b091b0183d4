from collections import Counter

import numpy as np
import pytest

from recognizer.images import ImageItem, decode_image
from training.annotation.gates import Gates, ScoreStage, above_mean, is_too_large, without_near_duplicates


def test_near_duplicates_of_earlier_descriptions_are_left_out():
    texts = ["long curved beak", "curved long beak", "long curved red beak", "white wing"]
    counts = Counter()
    assert without_near_duplicates(texts, Gates(), counts) == texts
    assert without_near_duplicates(texts, Gates(max_overlap=1), counts) == [texts[0], *texts[2:]]
    assert without_near_duplicates(texts, Gates(max_overlap=0.75), counts) == [texts[0], texts[3]]
    assert counts == {"near-duplicate description": 3}


def test_descriptions_below_their_mean_are_left_out():
    counts = Counter()
    assert above_mean(["a", "b", "c"], [0.1, 0.2, 0.3], counts) == ["b", "c"]
    assert above_mean(["a", "b", "c"], [0.3333, 0.3333, 0.3333], counts) == ["a", "b", "c"]
    assert above_mean(["a"], None, counts) == ["a"]
    assert +counts == {"description scored below the image's mean": 1}


def test_boxes_that_cover_nearly_everything_are_told():
    assert is_too_large((0, 0, 20, 10), (10, 20), Gates(max_area=0.95))
    assert not is_too_large((0, 0, 19, 10), (10, 20), Gates(max_area=0.95))
    assert not is_too_large((0, 0, 20, 10), (10, 20), Gates())


@pytest.mark.parametrize("bounds", [{"max_area": 0}, {"max_area": 1.5}, {"max_overlap": -1}])
def test_a_bound_is_a_share(bounds):
    with pytest.raises(ValueError, match="give a share above 0 and at most 1"):
        Gates(**bounds)


def test_scores_are_cosines_with_the_whole_image(starter, photos):
    texts = [["a cat", "a cup of coffee"], ["a rocket"]]
    stage = ScoreStage(starter, lambda image, earlier: [])
    assert stage.question(None, {}) is None
    prepared = []
    for name in ("cat", "rocket"):
        path = photos / f"{name}.jpg"
        decoded = decode_image(path, target_size_hw=stage.target_size_hw)
        prepared.append(stage.prepare(ImageItem(b"x", bytes(path)), decoded, None))
    scores = stage.answer(texts, prepared)
    assert scores[0][0] > scores[0][1]
    images = starter.encode_images([photos / "cat.jpg", photos / "rocket.jpg"]).image
    expected = [starter.encode_texts(of_image) @ image for of_image, image in zip(texts, images, strict=True)]
    assert np.allclose(np.concatenate(expected), np.concatenate(scores), atol=0.01)
    assert stage.settings["fingerprint"] == starter.card.fingerprint
