"""The file of a trained encoder: written, read back, and read from earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from recognizer.encoder import Encoder
from recognizer.encoder.decoder import DecoderSettings
from recognizer.encoder.encoder import load_parts
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.parts import make_decoder
from recognizer.encoder.starter.text_classifiers import TextClassifiers, TextClassifierSettings
from recognizer.encoder.trained_file import FORMAT, TrainedFile
from recognizer.encoder.windows import WindowSettings

CPU = torch.device("cpu")
SMALL = {"layers": 1, "width": 32, "heads": 4, "feedforward": 48}
ANCHORS = DecoderSettings(**SMALL, anchors=WindowSettings(divisions=3, sizes=(1, 2)), positions=True)
GRAIN = DecoderSettings(**SMALL, queries=4)


def base_spec(checkpoints: dict[str, str], name: str) -> dict:
    windows = WindowSettings().to_json()
    return {"kind": "open_clip", "model": name, "pretrained": checkpoints[name], "windows": windows}


def trained_file(checkpoints: dict[str, str], name: str, settings: DecoderSettings, **changes: dict) -> TrainedFile:
    spec = base_spec(checkpoints, name)
    tower = load_parts(spec, device=CPU, precision="fp32").image_tower
    torch.manual_seed(0)
    decoder = make_decoder(settings, tower, CPU)
    tensors = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    return TrainedFile(**({"base": spec, "decoder": settings, "card": {"steps": 3}, "tensors": tensors} | changes))


def encoder_of(file: TrainedFile, folder: Path) -> Encoder:
    path = folder / "encoder.safetensors"
    path.write_bytes(file.to_bytes())
    return Encoder.load(str(path), device="cpu", precision="fp32")


def rewrite_decoder_section(path: Path, **changes: object) -> None:
    """Write a file again with other settings of its decoder, as an earlier version would have."""
    with safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()[FORMAT])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    header["decoder"] |= changes
    save_file(tensors, path, metadata={FORMAT: json.dumps(header, sort_keys=True)})


@pytest.mark.parametrize(
    ("settings", "residual"),
    [(ANCHORS, {"dim": 8, "gain": 1.0, "hidden": 0}), (GRAIN, None)],
    ids=["anchors", "grain"],
)
def test_files_with_the_residual_setting_of_earlier_versions_load(checkpoints, tmp_path, settings, residual):
    file = trained_file(checkpoints, "tiny-vit", settings)
    today = encoder_of(file, tmp_path)
    rewrite_decoder_section(tmp_path / "encoder.safetensors", residual=residual)
    earlier = Encoder.load(str(tmp_path / "encoder.safetensors"), device="cpu", precision="fp32")
    picture = Image.effect_mandelbrot((56, 56), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    one, other = today.encode_images([picture]), earlier.encode_images([picture])
    assert np.array_equal(one.regions, other.regions)
    assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)
    back = TrainedFile.read(tmp_path / "encoder.safetensors")
    assert back.decoder == settings
    assert back.decoder_header["residual"] == residual  # part of the fingerprint
    assert earlier.card.fingerprint != today.card.fingerprint


@pytest.mark.parametrize(
    ("settings", "residual"),
    [(ANCHORS, {"dim": 8, "gain": 1.0, "hidden": 4}), (ANCHORS, None), (GRAIN, {"dim": 8, "gain": 1.0, "hidden": 0})],
    ids=["network", "anchors with learned vectors", "queries with the tower's vectors"],
)
def test_decoders_of_earlier_versions_that_are_gone_are_refused(checkpoints, tmp_path, settings, residual):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(trained_file(checkpoints, "tiny-vit", settings).to_bytes())
    rewrite_decoder_section(path, residual=residual)
    with pytest.raises(EncoderError, match=r"this version cannot compute; train the decoder again"):
        Encoder.load(str(path))


def test_text_classifiers_replace_earlier_ones_and_all_else_stays():
    tensors = {"decoder.norm.weight": torch.ones(16), "written.mean": torch.ones(3)}
    file = TrainedFile({"kind": "starter"}, GRAIN, {"steps": 7}, tensors)
    settings = TextClassifierSettings(dim=4, texts=2, width=3, temperature=0.1)
    classifiers = TextClassifiers(settings, 6).eval()
    classifiers.mean += 0.25
    made = file.with_text_classifiers(classifiers, {"steps": 7, "words": 3})
    assert made.card == {"steps": 7, "words": 3}
    assert (made.decoder, made.base, made.text_classifiers) == (file.decoder, file.base, settings)
    expected = {"decoder.norm.weight", "written.texts", "written.coefficients", "written.projection", "written.mean"}
    assert made.tensors.keys() == expected
    assert made.tensors["written.mean"].dtype == torch.float16
    assert made.tensors["written.mean"].tolist() == [0.25] * 6
    assert file.tensors == tensors


def test_a_file_is_read_back_as_it_was_written(checkpoints, tmp_path):
    trained = trained_file(checkpoints, "tiny-vit", GRAIN)
    path = tmp_path / "trained.safetensors"
    path.write_bytes(trained.to_bytes())
    back = TrainedFile.read(path)
    assert (back.base, back.decoder, back.card) == (trained.base, trained.decoder, trained.card)
    assert back.tensors.keys() == trained.tensors.keys()
    assert all(torch.equal(back.tensors[key], value) for key, value in trained.tensors.items())
    assert back.to_bytes() == trained.to_bytes()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", "Expecting value"),
        ("[]", "list indices"),
        ("{}", "'decoder' is missing"),
        ('{"decoder": null, "base": [], "card": {}}', "base and card must be JSON objects"),
        ('{"decoder": null, "base": {}, "card": 3}', "base and card must be JSON objects"),
        ('{"decoder": [1], "base": {}, "card": {}}', "list"),
        ('{"decoder": {"layers": "many"}, "base": {}, "card": {}}', "layers: give a whole number"),
        ('{"decoder": null, "base": {}, "card": {}, "written": [1]}', "it: give its settings by name"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_header_that_cannot_be_read_is_a_sentence(tmp_path, header, said):
    path = tmp_path / "encoder.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={FORMAT: header})
    with pytest.raises(EncoderError, match=rf"the header of .*{said}"):
        Encoder.load(str(path))


@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.9999])
def test_a_file_cut_short_is_a_sentence(checkpoints, tmp_path, share):
    content = trained_file(checkpoints, "tiny-vit", GRAIN).to_bytes()
    (tmp_path / "encoder.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(EncoderUnavailable, match="cannot read the encoder"):
        Encoder.load(str(tmp_path / "encoder.safetensors"))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(EncoderUnavailable, match="cannot read the encoder"):
        Encoder.load(str(tmp_path / "missing.safetensors"))
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    with pytest.raises(EncoderUnavailable, match="cannot read the encoder"):
        Encoder.load(str(tmp_path / "text.safetensors"))
    save_file({"x": torch.zeros(1)}, tmp_path / "strange.safetensors")
    with pytest.raises(EncoderError, match="is not an encoder of this project"):
        Encoder.load(str(tmp_path / "strange.safetensors"))
    with pytest.raises(EncoderError, match="brings its own weights"):
        Encoder.load(str(tmp_path / "strange.safetensors"), "random")
