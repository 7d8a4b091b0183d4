"""Files of trained encoders, and encoders made from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from recognizer.encoder import Encoder
from recognizer.encoder.decoder import DecoderSettings, ResidualSettings
from recognizer.encoder.encoder import load_parts
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.trained_file import GroundedFile, make_decoder
from recognizer.encoder.windows import WindowSettings
from tests.reference import voted_boxes

CPU = torch.device("cpu")
SMALL = {"layers": 1, "width": 32, "heads": 4, "feedforward": 48}
RESIDUAL = DecoderSettings(
    **SMALL, anchors=WindowSettings(divisions=3, sizes=(1, 2)), residual=ResidualSettings(dim=8), positions=True
)
GRAIN = DecoderSettings(**SMALL, queries=4)
WITH_TOKENS = ("tiny-vit", "tiny-coca-pool", "tiny-resnet", "tiny-pooled", "tiny-convnext")


def base_spec(checkpoints: dict[str, str], name: str) -> dict:
    windows = WindowSettings().to_json()
    return {"kind": "open_clip", "model": name, "pretrained": checkpoints[name], "windows": windows}


def trained_file(checkpoints: dict[str, str], name: str, settings: DecoderSettings, **changes: dict) -> GroundedFile:
    spec = base_spec(checkpoints, name)
    tower = load_parts(spec, device=CPU, precision="fp32").image_tower
    torch.manual_seed(0)
    decoder = make_decoder(settings, tower, CPU)
    tensors = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    return GroundedFile(**({"base": spec, "decoder": settings, "card": {"steps": 3}, "tensors": tensors} | changes))


@pytest.mark.parametrize("name", WITH_TOKENS)
@pytest.mark.parametrize("settings", [RESIDUAL, GRAIN], ids=["residual", "grain"])
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
        trained_file(checkpoints, "tiny-one-block", RESIDUAL)


def test_the_way_through_the_file_changes_nothing(checkpoints, tmp_path):
    trained = trained_file(checkpoints, "tiny-vit", GRAIN)
    path = tmp_path / "trained.safetensors"
    path.write_bytes(trained.to_bytes())
    back = GroundedFile.read(path)
    assert (back.base, back.decoder, back.card) == (trained.base, trained.decoder, trained.card)
    assert back.tensors.keys() == trained.tensors.keys()
    assert all(torch.equal(back.tensors[key], value) for key, value in trained.tensors.items())
    assert back.to_bytes() == trained.to_bytes()


def test_the_weight_from_which_a_region_counts_is_given_out_as_half(checkpoints, tmp_path):
    weights = []
    for number, counts_from in enumerate((0.5, 0.25)):
        settings = GRAIN.model_copy(update={"counts_from": counts_from})
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(trained_file(checkpoints, "tiny-vit", settings).to_bytes())
        encoder = Encoder.load(str(path), device="cpu", precision="fp32")
        square = Image.new("RGB", (56, 56), "red")
        weights.append(encoder.encode_images([square]).region_weight.astype(float))
    trained, given_out = weights
    assert np.allclose(given_out, trained / (trained + (1 - trained) / 3), atol=1e-5)  # odds times 3


def test_boxes_that_agree_are_given_out_as_their_mean(checkpoints, tmp_path):
    features = []
    for number, vote_overlap in enumerate((None, 0.3)):
        settings = RESIDUAL.model_copy(update={"vote_overlap": vote_overlap})
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(trained_file(checkpoints, "tiny-vit", settings).to_bytes())
        encoder = Encoder.load(str(path), device="cpu", precision="fp32")
        square = Image.effect_mandelbrot((56, 56), (-2, -1.5, 1, 1.5), 50).convert("RGB")
        features.append(encoder.encode_images([square]))
    plain, voted = features
    assert np.array_equal(plain.regions, voted.regions)
    assert np.array_equal(plain.image, voted.image)
    equally = np.full(len(plain.boxes_xyxy[0]), 1.0)  # untrained weights are all the same
    assert np.allclose(voted.boxes_xyxy[0], voted_boxes(plain.boxes_xyxy[0].tolist(), equally, 0.3), atol=1e-3)
    assert not np.allclose(voted.boxes_xyxy, plain.boxes_xyxy, atol=1)


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


def test_other_files_are_refused(tmp_path):
    with pytest.raises(EncoderUnavailable, match="cannot read the encoder"):
        Encoder.load(str(tmp_path / "missing.safetensors"))
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    with pytest.raises(EncoderUnavailable, match="cannot read the encoder"):
        Encoder.load(str(tmp_path / "text.safetensors"))
    save_file({"x": torch.zeros(1)}, tmp_path / "strange.safetensors")
    with pytest.raises(EncoderError, match="is no encoder of this project"):
        Encoder.load(str(tmp_path / "strange.safetensors"))
    with pytest.raises(EncoderError, match="brings its own weights"):
        Encoder.load(str(tmp_path / "strange.safetensors"), "random")
