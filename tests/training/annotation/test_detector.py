import json
from itertools import chain

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from transformers import AutoConfig

from recognizer.images import ImageItem, decode_image
from tests.training.annotation.tiny_detectors import OWLV2_SIDE, save_grounding_dino, save_owlv2
from training.annotation.detector import (
    NMS_IOU,
    DetectStage,
    Found,
    best_boxes,
    check_detector,
    found_above,
    open_detector,
)
from training.annotation.stage import Failed
from training.errors import DataError

SIZES_WH = [(128, 128), (256, 64), (64, 256)]
TEXTS = [["red bird"], ["blue dog", "red bird", "tail"], ["cat", "wing"]]


@pytest.fixture(scope="module")
def owlv2_folder(tmp_path_factory):
    return save_owlv2(tmp_path_factory.mktemp("models") / "owlv2")


@pytest.fixture(scope="module")
def owlv2(owlv2_folder):
    return open_detector(str(owlv2_folder), device="cpu")


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return open_detector(str(save_grounding_dino(tmp_path_factory.mktemp("models") / "dino")), device="cpu")


@pytest.fixture(params=["owlv2", "dino"])
def detector(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Noise in three aspect ratios, decoded."""
    folder = tmp_path_factory.mktemp("noise")
    for number, (width, height) in enumerate(SIZES_WH):
        noise = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return [decode_image(folder / f"{number}.png") for number in range(len(SIZES_WH))]


def prepared(detector, images):
    return [detector.prepare(ImageItem(b"x", b"x"), image) for image in images]


def values(found):
    return np.concatenate([found.boxes_xyxy, found.scores[:, None]], 1)


def test_a_batch_with_ragged_descriptions_gives_what_each_image_gives_alone(detector, images):
    # What Grounding DINO looks at in an image depends on its padding, so its images have one size.
    images = images if detector.name.endswith("owlv2") else images[:1] * 3
    inputs = prepared(detector, images)
    together = detector.detect(inputs, TEXTS, 0.0)
    assert [[len(found.scores) > 0 for found in of_image] for of_image in together] == [[True], [True] * 3, [True] * 2]
    for each, texts, found in zip(inputs, TEXTS, together, strict=True):
        (alone,) = detector.detect([each], [texts], 0.0)
        for one, other in zip(alone, found, strict=True):
            assert np.allclose(values(one), values(other), atol=1e-3)


def test_a_description_has_its_own_scores_whatever_stands_beside_it(owlv2, images):
    inputs = prepared(owlv2, images[:1])
    ((alone,),) = owlv2.detect(inputs, [["red bird"]], 0.0)
    ((_, beside),) = owlv2.detect(inputs, [["blue dog", "red bird"]], 0.0)
    assert np.allclose(values(alone), values(beside), atol=1e-5)
    ((first, second),) = owlv2.detect(inputs, [["blue dog", "red bird"]], 0.0)
    assert not np.allclose(first.scores, second.scores, atol=1e-4)


def test_one_forward_pass_for_all_images_and_descriptions(detector, images, monkeypatch):
    passes = []
    forward = torch.nn.Module.__call__

    def counted(module, *args, **kwargs):
        if type(module).__name__.endswith("ForObjectDetection"):
            passes.append(kwargs["pixel_values"].shape[0])
        return forward(module, *args, **kwargs)

    inputs = prepared(detector, images)
    monkeypatch.setattr(torch.nn.Module, "__call__", counted)
    detector.detect(inputs, [["bird"] * 10, ["dog"], ["cat", "wing"]], 0.3)
    assert passes == [3]


@pytest.mark.gpu
def test_a_gpu_detects_what_the_cpu_detects(detector, images, cuda):
    images = images[:1] * 3
    on_gpu = open_detector(detector.name, device=cuda)
    expected, found = (one.detect(prepared(one, images), TEXTS, 0.0) for one in (detector, on_gpu))
    for one, other in zip(chain.from_iterable(expected), chain.from_iterable(found), strict=True):
        assert np.allclose(values(one)[:, :4], values(other)[:, :4], atol=0.05)
        assert np.allclose(one.scores, other.scores, atol=1e-3)


@pytest.mark.parametrize("place", range(3))
def test_boxes_of_owlv2_are_in_displayed_pixels_at_any_aspect_ratio(owlv2, images, place):
    """The tiny model's boxes lie on a grid of the square to which the image is padded, a quarter of it wide."""
    width, height = SIZES_WH[place]
    side = max(width, height)
    ((found,),) = owlv2.detect(prepared(owlv2, [images[place]]), [["bird"]], 0.0)
    corners = [((i + 1) * side / 4, (j + 1) * side / 4) for j in range(4) for i in range(4)]
    expected = [[x - side / 8, y - side / 8, x + side / 8, y + side / 8] for x, y in corners]
    assert np.allclose(found.boxes_xyxy, expected, atol=0.05)
    for box in best_boxes(found, (height, width)):
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height


def test_boxes_of_a_turned_and_reduced_photograph_are_in_its_displayed_pixels(owlv2, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 700, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    decoded = decode_image(tmp_path / "a.jpg", target_size_hw=owlv2.input_size_hw)
    assert decoded.displayed_size_hw == (700, 300)
    assert decoded.image.height < 700
    ((found,),) = owlv2.detect(prepared(owlv2, [decoded]), [["bird"]], 0.0)
    assert found.boxes_xyxy[0] == pytest.approx([700 / 8, 700 / 8, 700 * 3 / 8, 700 * 3 / 8], abs=1)


def test_grounding_dino_equals_the_librarys_post_processing_for_one_description(dino, images, tmp_path_factory):
    from transformers import AutoProcessor, GroundingDinoForObjectDetection

    folder = dino.name
    processor = AutoProcessor.from_pretrained(folder)
    network = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    width, height = SIZES_WH[1]
    inputs = processor(images=images[1].image, text="red bird.", return_tensors="pt")
    with torch.inference_mode():
        outputs = network(**inputs)
    # Of this text the library also takes the tokens of beginning, end and full stop, so the scores are compared apart.
    expected = outputs.logits[0, :, 1:3].sigmoid().amax(1)
    boxes = processor.post_process_grounded_object_detection(outputs, threshold=0, target_sizes=[(height, width)])
    ((found,),) = dino.detect(prepared(dino, [images[1]]), [["red bird"]], 0.0)
    assert np.allclose(found.scores, expected, atol=1e-5)
    assert np.allclose(found.boxes_xyxy, boxes[0]["boxes"], atol=0.01)


def test_texts_are_shortened_to_the_limit_of_each_detector(owlv2, dino):
    long = "long curved beak of a yellow bird, with a white tail"
    assert owlv2.shortened(["red bird", long, "x" * 40]) == ["red bird", "long curved beak", "x" * 40]
    assert dino.shortened([long]) == [long]
    assert dino.shortened(["A red. bird?"]) == ["a red  bird "]
    shortened = dino.shortened([long] * 5)
    assert all(text == "long curved beak" or len(text.split()) <= 5 for text in shortened)


def test_texts_beyond_any_limit_are_detected_all_the_same(detector, images):
    inputs = prepared(detector, images[:1])
    texts = detector.shortened(["x" * 300, "?", *["red bird"] * 40][: 8 if detector.name.endswith("dino") else 42])
    assert len(detector.detect(inputs, [texts], 0.0)[0]) == len(texts)


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 3), (1, 100), (300, 3)])
def test_images_of_any_size_are_detected(detector, tmp_path, size_wh):
    Image.new("RGB", size_wh, "red").save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png")
    ((found,),) = detector.detect(prepared(detector, [decoded]), [["red bird"]], 0.0)
    for box in best_boxes(found, decoded.displayed_size_hw):
        assert 0 <= box[0] < box[2] <= size_wh[0]
        assert 0 <= box[1] < box[3] <= size_wh[1]


def test_boxes_are_clipped_thinned_and_ordered():
    boxes = np.array(
        [[-5, -5, 10, 10], [0, 0, 10, 10.4], [5, 5, 5, 9], [30, 5, 20, 9], [25, 2, 40, 9], [np.nan, 0, 9, 9]],
        np.float32,
    )
    scores = np.array([0.5, 0.6, 0.9, 0.9, 0.7, 0.9], np.float32)
    assert best_boxes(Found(boxes, scores), (20, 30)) == [[25, 2, 30, 9, 0.7], [0, 0, 10, 10.4, 0.6]]
    assert best_boxes(Found(np.empty((0, 4), np.float32), np.empty(0, np.float32)), (20, 30)) == []


def test_thousands_of_boxes_become_few_that_do_not_overlap_much():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (20_000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 200, (20_000, 2))], 1).astype(np.float32)
    kept = np.array(best_boxes(Found(boxes, rng.uniform(0.3, 1, 20_000).astype(np.float32)), (1000, 1000)))
    assert len(kept) == 20
    assert (np.diff(kept[:, 4]) <= 0).all()
    for place, one in enumerate(kept):
        for other in kept[place + 1 :]:
            sides = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
            common = np.prod(np.maximum(sides, 0))
            areas = sum(np.prod(box[2:4] - box[:2]) for box in (one, other))
            assert common / (areas - common) <= NMS_IOU


def test_only_boxes_above_the_threshold_are_found():
    boxes, scores = torch.tensor([[5.0, 5, 2, 4], [8, 8, 2, 2]]), torch.tensor([0.3, 0.2])
    found = found_above(boxes, scores, 0.3)
    assert found.boxes_xyxy.tolist() == [[4, 3, 6, 7]]


class Forgetful:
    """Runs out of memory for more than some images."""

    name = identity = "forgetful"
    input_size_hw = None

    def __init__(self, most):
        self.most, self.batches = most, []

    def detect(self, prepared, descriptions, threshold):
        self.batches.append(len(prepared))
        if len(prepared) > self.most:
            raise torch.OutOfMemoryError
        return [[Found(np.array([[0, 0, each, each]], np.float32), np.ones(1, np.float32))] for each in prepared]


def test_a_batch_that_finds_no_memory_is_halved():
    stage = DetectStage(Forgetful(2), 0.3, None, 8)
    answers = stage.answer([["x"]] * 5, [(place + 1, (9, 9)) for place in range(5)])
    assert [answer[0][0][2] for answer in answers] == [1, 2, 3, 4, 5]
    assert stage.detector.batches == [5, 2, 3, 1, 2]
    assert DetectStage(Forgetful(0), 0.3, None, 8).answer([["x"]], [(1, (9, 9))]) == [Failed("out of memory")]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("./gone/model", None, r"there is no directory ./gone/model with a detector; give a directory"),
        ("folder", None, "cannot load .* as a detector"),
        ("folder", {"model_type": "bert"}, "is a model of type 'bert'; detectors are OWLv2"),
        ("folder", {"model_type": "owlv2"}, "cannot load .* as a detector"),
    ],
)
def test_what_is_no_detector_is_one_sentence(tmp_path, name, config, message):
    if name == "folder":
        name = str(tmp_path)
        if config:
            (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=message):
        open_detector(name)


@pytest.mark.parametrize("forbidden", [True, False])
def test_nothing_is_fetched_where_the_hub_is_forbidden_or_does_not_answer(monkeypatch, tmp_path, forbidden):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", forbidden)
    tried = []

    def from_pretrained(*_, **__):
        tried.append(constants.HF_HUB_OFFLINE)
        raise OSError("not here")

    monkeypatch.setattr(AutoConfig, "from_pretrained", from_pretrained)
    why = "HF_HUB_OFFLINE allows no download" if forbidden else "the hub does not answer"
    with pytest.raises(DataError, match=f"files are not in the local cache, and {why}; give a directory"):
        check_detector("nobody/owl")
    assert tried == [True]
    assert forbidden == constants.HF_HUB_OFFLINE
    with pytest.raises(DataError, match=r"as a detector: not here$"):  # a folder does not need the hub
        check_detector(str(tmp_path))
    assert tried == [True, forbidden]


def test_the_kind_is_known_without_weights(owlv2_folder, owlv2, tmp_path):
    (tmp_path / "config.json").write_bytes((owlv2_folder / "config.json").read_bytes())
    assert (check_detector(str(tmp_path)), check_detector("mask")) == ("owlv2", "mask")
    assert owlv2.input_size_hw == (OWLV2_SIDE, OWLV2_SIDE)
    assert owlv2.identity.startswith("owlv2 owlv2#")
