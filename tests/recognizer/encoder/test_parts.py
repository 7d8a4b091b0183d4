"""Encoders made from a base and trained weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from recognizer.encoder import Encoder
from recognizer.encoder.encoder import load_parts
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.parts import fingerprint
from tests.recognizer.encoder.test_trained_file import ANCHORS, CPU, GRAIN, base_spec, trained_file

WITH_TOKENS = ("tiny-vit", "tiny-coca-pool", "tiny-resnet", "tiny-pooled", "tiny-convnext")


def test_the_fingerprint_follows_names_shapes_formats_and_numbers_and_not_the_order():
    tensors = {"a": torch.arange(4.0), "b": torch.zeros(2)}
    same = fingerprint({"x": 1, "y": 2}, tensors)
    assert fingerprint({"y": 2, "x": 1}, dict(reversed(tensors.items()))) == same
    others = [
        fingerprint({"x": 1}, tensors),
        fingerprint({"x": 1, "y": 2}, {**tensors, "a": torch.arange(4.0).reshape(2, 2)}),
        fingerprint({"x": 1, "y": 2}, {**tensors, "b": torch.zeros(2, dtype=torch.float64)}),
        fingerprint({"x": 1, "y": 2}, {**tensors, "a": torch.tensor([0.0, 1, 2, 4])}),
        fingerprint({"x": 1, "y": 2}, {"a": tensors["a"], "c": tensors["b"]}),
    ]
    assert len({same, *others}) == 6


@pytest.mark.parametrize("name", WITH_TOKENS)
@pytest.mark.parametrize("settings", [ANCHORS, GRAIN], ids=["anchors", "grain"])
def test_every_tower_with_tokens_takes_a_decoder(checkpoints, tmp_path, name, settings):
    path = tmp_path / "trained.safetensors"
    path.write_bytes(trained_file(checkpoints, name, settings).to_bytes())
    encoder = Encoder.load(str(path), device="cpu", precision="fp32")
    wide = Image.effect_mandelbrot((90, 40), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    features = encoder.encode_images([wide, wide.resize((30, 70))])
    assert np.allclose(np.linalg.norm(features.regions, axis=-1), 1, atol=1e-5)
    for row, (width, height) in enumerate(((90, 40), (30, 70))):
        x0, y0, x1, y1 = features.boxes_xyxy[row].T
        assert (x0 >= 0).all()
        assert (y0 >= 0).all()
        assert (x1 <= width).all()
        assert (y1 <= height).all()
    assert ((features.region_weight >= 0) & (features.region_weight <= 1)).all()
    assert encoder.region_source == "grounding decoder"


def test_a_tower_without_tokens_is_refused(checkpoints):
    with pytest.raises(EncoderError, match="gives no tokens"):
        trained_file(checkpoints, "tiny-one-block", ANCHORS)


def test_a_memory_finds_its_trained_encoder_again(checkpoints, tmp_path):
    path = tmp_path / "trained.safetensors"
    path.write_bytes(trained_file(checkpoints, "tiny-vit", GRAIN).to_bytes())
    encoder = Encoder.load(str(path), device="cpu", precision="fp32")
    again = Encoder.from_spec(encoder.card.spec, device="cpu", precision="fp32")
    assert again.card == encoder.card


def test_other_weights_are_another_encoder(checkpoints, tmp_path):
    trained = trained_file(checkpoints, "tiny-vit", GRAIN)
    changed = {key: value + 1 if key == "decoder.norm.bias" else value for key, value in trained.tensors.items()}
    prints = set()
    for number, tensors in enumerate((trained.tensors, changed)):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(trained_file(checkpoints, "tiny-vit", GRAIN, tensors=tensors).to_bytes())
        prints.add(Encoder.load(str(path), device="cpu").card.fingerprint)
    assert len(prints) == 2


def test_trained_towers_replace_those_of_the_base(checkpoints, tmp_path):
    spec = base_spec(checkpoints, "tiny-vit")
    parts = load_parts(spec, device=CPU, precision="fp32")
    image = {f"image.{key}": torch.zeros_like(value) for key, value in parts.image_tower.network.state_dict().items()}
    text = {f"text.{key}": torch.ones_like(value) for key, value in parts.text_tower.network.named_parameters()}
    path = tmp_path / "trained.safetensors"
    path.write_bytes(trained_file(checkpoints, "tiny-vit", GRAIN, decoder=None, tensors=image | text).to_bytes())
    loaded = load_parts({"kind": "trained", "file": str(path)}, device=CPU, precision="fp32")
    assert not any(value.any() for value in loaded.image_tower.network.state_dict().values())
    assert all((value == 1).all() for value in loaded.text_tower.network.parameters())
    assert loaded.decoder is None


def test_weights_of_another_architecture_are_named(checkpoints, tmp_path):
    trained = trained_file(checkpoints, "tiny-vit", GRAIN)
    tensors = dict(trained.tensors)
    del tensors["decoder.norm.weight"]
    tensors["decoder.norm.bias"] = torch.zeros(7)
    tensors["decoder.surprise"] = torch.zeros(1)
    path = tmp_path / "trained.safetensors"
    path.write_bytes(trained_file(checkpoints, "tiny-vit", GRAIN, tensors=tensors).to_bytes())
    with pytest.raises(EncoderError) as caught:
        Encoder.load(str(path), device="cpu")
    assert str(caught.value) == (
        "these weights are of another decoder: surprise is unknown; norm.weight is missing; "
        "norm.bias has shape (7,), not (32,)"
    )
