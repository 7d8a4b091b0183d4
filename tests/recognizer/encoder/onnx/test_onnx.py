"""Encoders written as ONNX files compute what they compute with torch."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from recognizer.cli.engine_runs import check_ray_run
from recognizer.encoder import Encoder, EncoderError, WindowSettings
from recognizer.encoder.decoder import DecoderSettings
from recognizer.encoder.errors import EncoderUnavailable
from recognizer.encoder.onnx.export import export_onnx
from recognizer.encoder.onnx.folder import CARD, IMAGE, TEXT, WEIGHTS, read_card, write_card
from recognizer.encoder.onnx.sessions import open_onnx
from recognizer.encoder.onnx.surroundings import Surroundings
from recognizer.encoder.parts import make_decoder
from recognizer.encoder.regions import RegionFinder, Regions
from recognizer.errors import RecognizerError
from tests.recognizer.commands import call

LEAST_COSINE = 0.9999
TEXTS = ["cat", "a photo of a snowy owl.", "word " * 100]


@pytest.fixture(scope="session")
def exported(checkpoints, tmp_path_factory):
    """A function that exports a small model once and returns it with its folder."""
    done = {}

    def export(name):
        if name not in done:
            encoder = Encoder.load(name, checkpoints[name], device="cpu", precision="fp32")
            folder = tmp_path_factory.mktemp("onnx") / name
            export_onnx(encoder.parts, folder)
            done[name] = encoder, folder
        return done[name]

    return export


def check_batches(encoder, folder):
    """The files agree with torch at every batch size."""
    parts = encoder.parts
    finder = RegionFinder(parts.image_tower, parts.decoder, parts.windows, bf16=False)
    images, texts = (onnxruntime.InferenceSession(folder / name) for name in (IMAGE, TEXT))
    noise = np.random.default_rng(0)
    for batch in (1, 3, 8):
        pixels = noise.integers(0, 256, (batch, 3, *encoder.input_size_hw), dtype=np.uint8)
        with torch.inference_mode():
            found = finder.find(torch.from_numpy(pixels))
        expected = Regions(*(torch.cat(each).numpy() for each in zip(*found, strict=True)))
        actual = Regions(*images.run(["image", "regions", "boxes_xyxy", "weight"], {"pixels": pixels}))
        assert (actual.image * expected.image).sum(-1).min() >= LEAST_COSINE
        assert (actual.regions * expected.regions).sum(-1).min() >= LEAST_COSINE
        np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=0.02)
        np.testing.assert_allclose(actual.weight, expected.weight, atol=1e-3)
        tower = parts.text_tower
        sequence = tower.tokenize(["a photo of a snowy owl."])[0]
        length = tower.context_length if len(sequence) == tower.context_length else len(sequence) + 3
        tokens = np.full((batch, length), tower.pad_id)
        tokens[:, : len(sequence)] = sequence
        with torch.inference_mode():
            vectors = tower.forward(torch.from_numpy(tokens)).numpy()
        (encoded,) = texts.run(["vectors"], {"tokens": tokens})
        np.testing.assert_allclose(encoded, vectors, atol=1e-4)


def check_encoder(encoder, folder, images):
    """An encoder on onnxruntime is the one on torch, and an image's features do not depend on its neighbours."""
    other = Encoder.from_spec(encoder.card.spec, onnx=folder)
    assert other.card == encoder.card
    assert other.region_source == encoder.region_source
    assert (other.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(-1).min() >= LEAST_COSINE
    assert other.count_truncated(TEXTS) == encoder.count_truncated(TEXTS)
    expected, actual = encoder.encode_images(images), other.encode_images(images)
    assert (actual.image * expected.image).sum(-1).min() >= LEAST_COSINE
    assert (actual.regions * expected.regions).sum(-1).min() >= LEAST_COSINE
    np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(actual.region_weight, expected.region_weight, atol=1e-3)
    alone = other.encode_images(images[1:2])
    np.testing.assert_array_equal(alone.regions[0], actual.regions[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["tiny-vit", "tiny-resnet", "tiny-coca-pool", "tiny-pooled", "tiny-convnext", "tiny-one-block"]
)
def test_a_model_on_onnxruntime_is_the_one_on_torch(name, exported, pictures):
    encoder, folder = exported(name)
    assert read_card(folder).encoder == encoder.card
    check_batches(encoder, folder)
    check_encoder(encoder, folder, pictures)


@pytest.mark.slow
def test_a_decoder_of_learned_queries_is_exported_too(tiny_vit, tmp_path):
    torch.manual_seed(0)
    settings = DecoderSettings(layers=2, width=32, heads=4, feedforward=64, positions=True, vote_overlap=0.5)
    decoder = make_decoder(settings, tiny_vit.parts.image_tower, tiny_vit.device).eval()
    encoder = Encoder(replace(tiny_vit.parts, decoder=decoder), device=tiny_vit.device, precision="fp32")
    export_onnx(encoder.parts, tmp_path)
    check_batches(encoder, tmp_path)


@pytest.fixture(scope="module")
def starter_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter") / "starter.onnx"
    code, out, err = call("export-onnx", "--model", "starter", "--output", folder)
    assert (code, out) == (0, "")
    assert str(folder) in err
    return folder


@pytest.mark.slow
def test_the_starter_on_onnxruntime_is_the_one_on_torch(starter, starter_folder, photos):
    check_batches(starter, starter_folder)
    check_encoder(starter, starter_folder, [Image.open(path) for path in sorted(photos.glob("*.jpg"))])


@pytest.mark.slow
def test_the_torch_weights_are_read_only_where_the_folder_does_not_say_whose_they_are(
    starter, starter_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("recognizer.encoder.encoder.load_parts", lambda *_, **__: pytest.fail("the weights are read"))
    encoder = Encoder.load("starter", onnx=starter_folder)
    assert encoder.card == starter.card
    assert (encoder.default_templates, encoder.default_temperature) == (
        starter.default_templates,
        starter.default_temperature,
    )
    assert (encoder.region_source, encoder.has_decoder, encoder.fit) == (starter.region_source, True, starter.fit)
    assert encoder.count_truncated(TEXTS) == starter.count_truncated(TEXTS)

    # A folder of an earlier release does not say what surrounds the networks.
    earlier = tmp_path / "earlier"
    shutil.copytree(starter_folder, earlier)
    card = json.loads((earlier / CARD).read_text())
    (earlier / CARD).write_text(json.dumps({name: card[name] for name in ("encoder", "windows", "files")}))
    assert Encoder(opened(starter, earlier), device=starter.device, precision="fp32").card == starter.card
    with pytest.raises(pytest.fail.Exception, match="the weights are read"):
        Encoder.load("starter", onnx=earlier)

    card["surroundings"]["tokenizer"] = "0" * 64
    (earlier / CARD).write_text(json.dumps(card))
    with pytest.raises(EncoderError, match="tokenizer that is installed is not the one"):
        Encoder.load("starter", onnx=earlier)
    del card["surroundings"]["temperature"]
    (earlier / CARD).write_text(json.dumps(card))
    with pytest.raises(EncoderError, match=r"card\.json is damaged"):
        Encoder.load("starter", onnx=earlier)


@pytest.mark.slow
def test_commands_on_onnxruntime_give_the_rows_that_they_give_on_torch(starter_folder, photos, tmp_path):
    (tmp_path / "labels.csv").write_text("name\ntabby cat\nred fox\ncup of coffee\nrocket\n")
    rows = {}
    for name, options in (("torch", ["--precision", "fp32"]), ("onnx", ["--onnx", starter_folder])):
        memory, results = tmp_path / name, tmp_path / f"{name}.jsonl"
        code, _, err = call("build", tmp_path / "labels.csv", "--memory", memory, *options)
        assert code == 0
        assert (f"from {starter_folder}" in err) == (name == "onnx")
        assert call("run", photos, "--memory", memory, "--output", results, *options)[0] == 0
        rows[name] = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(rows["onnx"]) == len(rows["torch"]) > 0
    for here, there in zip(rows["onnx"], rows["torch"], strict=True):
        assert (here["path"], here["label"]) == (there["path"], there["label"])
        assert here["confidence"] == pytest.approx(there["confidence"], abs=1e-3)
    # A memory does not know on what its texts were computed.
    mixed = tmp_path / "mixed.jsonl"
    code, _, _ = call("run", photos, "--memory", tmp_path / "torch", "--output", mixed, "--onnx", starter_folder)
    assert code == 0
    assert [json.loads(line)["label"] for line in mixed.read_text().splitlines()] == [r["label"] for r in rows["torch"]]


@pytest.fixture
def folder(starter, tmp_path):
    """A complete folder by its card, whose files hold no networks."""
    for name in WEIGHTS:
        (tmp_path / name).write_bytes(b"no network")
    write_card(tmp_path, starter.card, None, Surroundings.of(starter.parts).to_json())
    return tmp_path


def opened(encoder, folder):
    return open_onnx(encoder.card.spec, folder, lambda: encoder.parts)


def test_files_that_are_no_networks_are_a_sentence_and_no_torch_weights_are_read(starter, folder):
    with pytest.raises(EncoderError, match=r"onnxruntime cannot read .*image\.onnx: .*; export it again"):
        open_onnx(starter.card.spec, folder, lambda: pytest.fail("the weights are read"))


def test_a_folder_of_another_encoder_is_refused(starter, folder):
    other = replace(starter.card, name="tiny", fingerprint="0" * 64)
    write_card(folder, other, None)
    with pytest.raises(EncoderError, match="exported from another encoder: its weights are those of tiny"):
        opened(starter, folder)
    write_card(folder, starter.card, WindowSettings(divisions=4, sizes=(2,)).to_json())
    with pytest.raises(EncoderError, match="was exported with the windows"):
        opened(starter, folder)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_damaged_or_missing_file_is_a_sentence(name, starter, folder):
    (folder / name).write_bytes(b"nO network")
    with pytest.raises(EncoderError, match=rf"{name} is damaged: .* write it again with `recognizer export-onnx"):
        opened(starter, folder)
    (folder / name).unlink()
    with pytest.raises(EncoderUnavailable, match=f"{name} is missing"):
        opened(starter, folder)


def test_a_card_that_is_damaged_or_missing_is_a_sentence(tmp_path):
    with pytest.raises(EncoderUnavailable, match=r"is not a folder of an exported encoder: it has no card\.json"):
        read_card(tmp_path)
    for content in ("{", "[]", json.dumps({"encoder": {}, "windows": None, "files": {}})):
        (tmp_path / CARD).write_text(content)
        with pytest.raises(EncoderError, match=r"card\.json is damaged"):
            read_card(tmp_path)


def test_without_the_libraries_the_command_to_install_them_is_named(starter, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderUnavailable, match=r'onnxruntime.* pip install "recognizer\[onnx\]"'):
        opened(starter, folder)
    monkeypatch.setattr("recognizer.encoder.onnx.export.find_spec", lambda name: None if name == "onnxscript" else 1)
    with pytest.raises(EncoderUnavailable, match=r'exporting needs onnxscript; .* pip install "recognizer\[onnx\]"'):
        export_onnx(starter.parts, folder)
    assert read_card(folder)  # nothing was changed


def test_a_file_as_the_folder_is_refused(starter, folder):
    with pytest.raises(EncoderError, match=r"image\.onnx is a file; name a folder"):
        export_onnx(starter.parts, folder / IMAGE)


@pytest.mark.parametrize(("option", "said"), [({"device": "mps"}, "on the CPU"), ({"precision": "bf16"}, "in fp32")])
def test_another_device_or_precision_is_refused(option, said, starter, tmp_path):
    with pytest.raises(EncoderError, match=said):
        Encoder.from_spec(starter.card.spec, **option, onnx=tmp_path)


def test_onnx_does_not_go_with_ray(tmp_path):
    with pytest.raises(RecognizerError, match="--onnx does not go with --engine ray"):
        check_ray_run(str(tmp_path), None, boxes=None, pictures=None, features=None, onnx=tmp_path)
