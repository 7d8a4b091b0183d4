"""The stages of annotation with two models that really work: the tiny MLLM and the tiny OWLv2."""

import io
import json
import random
from collections import Counter

import pytest
from PIL import Image

from recognizer.images import ImageItem, decode_bytes
from rerank.backends.transformers_local import TransformersLocal
from rerank.written import Writer
from tests.rerank.tiny_mllm.pictures import CAPTIONS, FEATURES, FILES, MODEL, NAMES, PHOTOS, augmented
from tests.training.tiny_owlv2 import scenes
from training.annotation.asking import asking_stages
from training.annotation.detector import DetectStage, open_detector
from training.annotation.replies import read_caption, read_features, read_subject

ITEM = ImageItem(b"", b"")


@pytest.fixture(scope="module")
def asked():
    """The replies of each stage about each picture, a little changed, by name."""
    rng = random.Random(5)
    changed = {}
    for name in NAMES:
        with Image.open(PHOTOS / FILES[name]) as photo:
            changed[name] = augmented(photo.convert("RGB"), rng)
    stages = asking_stages(
        Writer(TransformersLocal(str(MODEL), device="cpu", dtype="float32")), known={}, image_size=256
    )
    replies = {}
    for stage in stages:
        questions = [name if stage.name == "descriptions" else "" for name in NAMES]
        replies[stage.name] = dict(zip(NAMES, stage.answer(questions, list(changed.values())), strict=True))
    return replies


def test_the_tiny_mllm_captions_its_pictures(asked):
    counts = Counter()
    assert {name: read_caption(reply, counts) for name, reply in asked["caption"].items()} == CAPTIONS
    assert not counts


def test_the_tiny_mllm_names_subjects_and_two_features_of_each(asked):
    counts = Counter()
    assert {name: read_subject(reply, counts) for name, reply in asked["subject"].items()} == {n: n for n in NAMES}
    features = {name: tuple(read_features(reply, counts)) for name, reply in asked["descriptions"].items()}
    assert features == FEATURES
    assert all(len(set(two)) == 2 for two in features.values())
    assert not counts


def test_the_tiny_mllm_answers_in_json(asked):
    keys = {stage: {key for reply in of.values() for key in json.loads(reply)} for stage, of in asked.items()}
    assert keys == {"caption": {"caption"}, "subject": {"subject"}, "descriptions": {"descriptions"}}


@pytest.fixture(scope="module")
def detect():
    detector = open_detector(str(scenes.MODEL), device="cpu")
    return DetectStage(detector, 0.3, lambda image, earlier: scenes.NAMES, batch_size=8)


def boxes_of(stage, files):
    """The boxes of every name in each file, and the displayed sizes."""
    decoded = [decode_bytes(file, target_size_hw=stage.target_size_hw) for file in files]
    prepared = [stage.prepare(ITEM, each, scenes.NAMES) for each in decoded]
    return stage.answer([scenes.NAMES] * len(files), prepared), [each.displayed_size_hw for each in decoded]


def encoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def overlap(one, other):
    sides = [max(0.0, min(one[end], other[end]) - max(one[end - 2], other[end - 2])) for end in (2, 3)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def check(found, scene):
    """Each cut-out that is shown has a box that fits it, and no other has one."""
    for name, boxes in zip(scenes.NAMES, found, strict=True):
        true = scene.boxes_xyxy.get(name)
        if true is None:
            assert boxes == [], name
        else:
            assert overlap(boxes[0][:4], true) >= 0.8, (name, boxes[0], true)


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_boxes_fit_what_is_shown_on_any_canvas(detect, shape):
    made = scenes.known_scenes(shape)[::2]  # one and two cut-outs; a pass takes 0.7 s
    found, sizes_hw = boxes_of(detect, [encoded(scene.image, format="PNG") for scene in made])
    assert sizes_hw == [scenes.SHAPES[shape][::-1]] * len(made)
    for boxes, scene in zip(found, made, strict=True):
        check(boxes, scene)


def test_boxes_are_in_displayed_pixels_of_a_photograph_that_is_turned_and_reduced(detect):
    scene = scenes.known_scenes("4:1")[-1]
    large = scene.image.resize((2400, 600))
    turned = Image.Exif()
    turned[0x0112] = 8  # displayed after a quarter turn to the left
    file = encoded(large.transpose(Image.Transpose.ROTATE_270), format="JPEG", quality=95, exif=turned)
    assert decode_bytes(file, target_size_hw=detect.target_size_hw).image.width < 2400
    (found,), sizes_hw = boxes_of(detect, [file])
    assert sizes_hw == [(600, 2400)]
    boxes = {name: tuple(2 * edge for edge in box) for name, box in scene.boxes_xyxy.items()}
    check(found, scenes.Scene(large, boxes))


def test_images_with_different_numbers_of_descriptions_share_a_pass(detect):
    made = [scenes.known_scenes(shape)[-1] for shape in scenes.SHAPES]
    decoded = [decode_bytes(encoded(scene.image, format="PNG")) for scene in made]
    prepared = [detect.prepare(ITEM, each, scenes.NAMES) for each in decoded]
    asked = [list(scenes.NAMES), [scenes.NAMES[1]], [scenes.NAMES[2], scenes.NAMES[0]]]
    for texts, alone, boxes in zip(asked, prepared, detect.answer(asked, prepared), strict=True):
        (expected,) = detect.answer([texts], [alone])
        assert len(boxes) == len(texts)
        for one, other in zip(boxes, expected, strict=True):
            assert [pytest.approx(box, abs=0.02) for box in other] == one
