"""Weights from a file: which preprocessing they get, and what is said of it."""

from __future__ import annotations

import json
import shutil

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from recognizer.building import explain_encoder
from recognizer.encoder import Encoder, EncoderError, EncoderUnavailable
from recognizer.encoder.open_clip.file_settings import differing_tags, explain_settings, read_pretrained

SETTINGS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}
ODD_TAG = SETTINGS | {"url": "", "hf_hub": "nobody/odd/", "quick_gelu": True}
PLAIN_TAG = SETTINGS | {"url": "", "hf_hub": "nobody/plain/", "interpolation": "bicubic"}


@pytest.fixture
def tags(offer):
    """Give the small ViT two tags."""
    offer("tiny-vit", {"odd": ODD_TAG, "plain": PLAIN_TAG})


@pytest.fixture
def weights(checkpoints, tmp_path):
    """The small ViT's weights, alone in a folder."""
    return shutil.copy(checkpoints["tiny-vit"], tmp_path / "weights.pt")


def load(pretrained, model="tiny-vit"):
    return Encoder.load(model, str(pretrained), device="cpu", precision="fp32")


def expected_vectors(file, pictures, settings, *, quick_gelu):
    """Encode as open_clip does where it is told the settings."""
    network = open_clip.create_model(
        "tiny-vit", pretrained=str(file), force_quick_gelu=quick_gelu, force_preprocess_cfg=settings
    )
    transform = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        return network.eval().encode_image(torch.stack([transform(p) for p in pictures]), normalize=True).numpy()


@pytest.mark.parametrize(("tag", "quick_gelu"), [("odd", True), ("plain", False)])
def test_a_file_with_a_tag_is_read_as_the_tag_is(tag, quick_gelu, tags, weights, pictures):
    encoder = load(f"{tag}={weights}")
    settings = SETTINGS if tag == "odd" else PLAIN_TAG
    wanted = expected_vectors(weights, pictures, settings, quick_gelu=quick_gelu)
    assert encoder.encode_images(pictures).image == pytest.approx(wanted, abs=1e-5)
    assert encoder.card.spec["pretrained"] == str(weights)
    assert encoder.card.spec["settings"]["source"] == f"tag {tag}"
    assert encoder.card.fingerprint != load(weights).card.fingerprint
    assert Encoder.from_spec(encoder.card.spec, device="cpu", precision="fp32").card == encoder.card


def test_the_weights_of_a_tag_and_the_tag_with_their_file_are_one_encoder(tags, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(ODD_TAG, "file", str(weights))
    assert load("odd").card.fingerprint == load(f"odd={weights}").card.fingerprint


def test_quick_gelu_alone_changes_the_fingerprint(weights, tmp_path):
    config = {"model_cfg": open_clip.get_model_config("tiny-vit") | {"quick_gelu": True}, "preprocess_cfg": {}}
    plain = load(weights).card
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    quick = load(weights).card
    assert (plain.spec["settings"]["quick_gelu"], quick.spec["settings"]["quick_gelu"]) == (False, True)
    assert plain.fingerprint != quick.fingerprint


def test_open_clips_config_beside_the_file_is_read_once(weights, tmp_path, pictures):
    config = {"model_cfg": open_clip.get_model_config("tiny-vit"), "preprocess_cfg": SETTINGS}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    encoder = load(weights)
    wanted = expected_vectors(weights, pictures, SETTINGS, quick_gelu=False)
    assert encoder.encode_images(pictures).image == pytest.approx(wanted, abs=1e-5)
    assert explain_encoder(encoder) == [
        "weights.pt: mean 0.1 0.2 0.3, std 0.4 0.5 0.6, resize squash, bilinear, GELU (open_clip_config.json)"
    ]
    (tmp_path / "open_clip_config.json").unlink()  # what a memory was made with is in its spec
    assert Encoder.from_spec(encoder.card.spec, device="cpu", precision="fp32").card == encoder.card


def test_a_tag_counts_more_than_a_config(tags, weights, tmp_path):
    config = {"model_cfg": open_clip.get_model_config("tiny-vit"), "preprocess_cfg": {"mean": [0.9] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert load(f"odd={weights}").card.spec["settings"]["mean"] == [0.1, 0.2, 0.3]


def test_the_config_of_another_network_is_refused(weights, tmp_path):
    config = open_clip.get_model_config("tiny-vit")
    config["vision_cfg"]["head_width"] = 32  # in no tensor's shape
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(EncoderError, match=r"another network than tiny-vit: its head_width is 32, not 16.*local-dir"):
        load(weights)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"open_clip_config\.json could not be read"):
        load(weights)


def test_what_was_assumed_is_said_with_the_tags_that_differ(tags, weights):
    assumed, differing = explain_encoder(load(weights))
    assert assumed == (
        "nothing says how images for weights.pt are prepared; assumed: mean 0.4815 0.4578 0.4082, std 0.2686 0.2613 "
        "0.2758, resize shortest, bicubic, GELU (defaults of tiny-vit)"
    )
    common = "mean 0.1 0.2 0.3, std 0.4 0.5 0.6, resize squash"
    assert differing == (
        f"tags of tiny-vit that differ: odd ({common}, bilinear, QuickGELU); plain ({common}). If the file is one of "
        "them, or was trained from one, give --pretrained TAG=FILE"
    )
    assert explain_encoder(load("random")) == []


def test_tags_of_open_clip_that_differ_from_their_architecture(tmp_path):
    (tmp_path / "weights.pt").touch()
    differing = {}
    for model in open_clip.list_models():
        _, settings = read_pretrained(model, str(tmp_path / "weights.pt"))
        differing[model] = {tag: words for words, tags in differing_tags(model, settings).items() for tag in tags}
    assert differing["ViT-B-32"]["openai"] == "QuickGELU"
    assert "laion2b_s34b_b79k" not in differing["ViT-B-32"]
    assert differing["ViT-L-14"]["laion2b_s32b_b82k"] == "mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    assert differing["ViT-B-16-SigLIP2-256"]["webli"].endswith("resize squash")
    assert sum(map(len, differing.values())) >= 83
    _, quick = read_pretrained("ViT-B-32-quickgelu", str(tmp_path / "weights.pt"))
    assert explain_settings("ViT-B-32-quickgelu", "weights.pt", quick)[1:] == []


def test_the_spec_of_an_older_memory_opens_as_it_did(tags, weights, tmp_path):
    now = load(weights).card
    old = {name: value for name, value in now.spec.items() if name != "settings"}
    config = {"model_cfg": open_clip.get_model_config("tiny-vit"), "preprocess_cfg": SETTINGS}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    opened = Encoder.from_spec(old, device="cpu", precision="fp32").card
    assert opened.fingerprint == now.fingerprint
    assert opened.spec == old


@pytest.mark.parametrize("damage", [{"mean": None}, {"std": ["x"]}, {"source": ...}])
def test_damaged_settings_in_a_spec_are_a_sentence(damage, weights):
    spec = load(weights).card.spec
    settings = {name: value for name, value in (spec["settings"] | damage).items() if value is not ...}
    with pytest.raises(EncoderError, match=r"the encoder's settings .* are damaged"):
        Encoder.from_spec(spec | {"settings": settings}, device="cpu")


@pytest.mark.parametrize(
    ("pretrained", "kind", "words"),
    [
        ("other={weights}", EncoderError, "'other' of .* is no tag of tiny-vit; it has odd, plain"),
        ("odd={weights}x", EncoderUnavailable, "weights.ptx does not exist; .* means TAG=FILE"),
        ("nothing", EncoderUnavailable, "a checkpoint file, TAG=FILE or 'random'"),
    ],
)
def test_what_does_not_fit_is_named(pretrained, kind, words, tags, weights):
    with pytest.raises(kind, match=words):
        load(pretrained.format(weights=weights))


def test_an_equals_sign_may_be_part_of_a_path(weights, tmp_path):
    folder = tmp_path / "lr=1"
    folder.mkdir()
    path = shutil.move(weights, folder / "weights.pt")
    assert load(path).card.spec["pretrained"] == str(path)


def test_a_repository_in_a_folder_loads_as_the_message_for_missing_files_says(weights, tmp_path, pictures):
    folder = tmp_path / "repository"
    folder.mkdir()
    torch.save(torch.load(weights, weights_only=True), folder / "open_clip_pytorch_model.bin")
    config = {"model_cfg": open_clip.get_model_config("tiny-vit"), "preprocess_cfg": SETTINGS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    encoder = Encoder.load(f"local-dir:{folder}", device="cpu", precision="fp32")
    wanted = expected_vectors(weights, pictures, SETTINGS, quick_gelu=False)
    assert encoder.encode_images(pictures).image == pytest.approx(wanted, abs=1e-5)
