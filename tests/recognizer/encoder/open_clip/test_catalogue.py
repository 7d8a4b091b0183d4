"""The encoders on offer, and what of them lies in the hub cache."""

from __future__ import annotations

import open_clip
import pytest
import torch
from huggingface_hub import constants

from recognizer.building import load_default_encoder
from recognizer.encoder import Encoder, EncoderError, EncoderUnavailable
from recognizer.encoder.named import NAMED, NamedEncoder
from recognizer.encoder.open_clip.catalogue import hub_answers, is_at_hand, list_offers, nothing_fetched

COMMIT = "0" * 40


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache; returns a function that puts a file into it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def put(repository, file, content=b"{}"):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        path = folder / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


def test_every_pair_of_open_clip_is_listed_the_best_first():
    offers = list_offers()
    assert {(offer.model, offer.tag) for offer in offers} == set(open_clip.list_pretrained())
    accuracies = [offer.accuracy or 0 for offer in offers]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {offer.name for offer in offers} == {"", "small", "base", "large"}


@pytest.mark.parametrize(
    ("model", "tag", "pixels", "accuracy"),
    [
        ("ViT-H-14-378-quickgelu", "dfn5b", "378", 84.37),
        ("ViT-H-14", "dfn5b", "224", 83.44),  # in the table under its other name
        ("ViT-B-32", "laion400m_e32", "224", 62.93),  # with QuickGELU, as the tag is loaded
        ("ViT-B-16-SigLIP", "webli", "224", 76.04),
        ("RN50x64", "openai", "448", 73.91),
        ("ViT-gopt-16-SigLIP2-384", "webli", "384", None),  # not in the table
        ("PE-Core-L-14-336", "meta", "336", 83.5),  # its makers' figure
    ],
)
def test_size_and_accuracy_of_an_offer(model, tag, pixels, accuracy):
    (offer,) = [offer for offer in list_offers(f"{model}/{tag}") if offer.model == model]
    assert offer.pixels == pixels
    assert offer.accuracy == (None if accuracy is None else pytest.approx(accuracy))


@pytest.mark.parametrize("filter", ["siglip2-256", "BASE ", "ViT-B-16-SigLIP2-256/webli"])
def test_a_filter_is_part_of_name_model_and_tag(filter):
    assert "ViT-B-16-SigLIP2-256" in [offer.model for offer in list_offers(filter)]
    assert len(list_offers(filter)) < 9
    assert list_offers("no such") == []


@pytest.mark.parametrize("encoder", NAMED.values(), ids=list(NAMED))
def test_a_named_encoder_is_one_of_open_clips(encoder):
    assert (encoder.model, encoder.tag) in open_clip.list_pretrained()
    assert open_clip.get_pretrained_cfg(encoder.model, encoder.tag)["hf_hub"] == f"{encoder.repository}/"
    assert open_clip.get_model_config(encoder.model)["vision_cfg"]["image_size"] == encoder.pixels
    with pytest.raises(EncoderError, match=f"{encoder.name} brings its own weights"):
        Encoder.load(encoder.name, "openai")


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_weights_are_at_hand_when_the_cache_holds_them(file, hub_cache):
    assert not is_at_hand("ViT-B-32", "datacomp_xl_s13b_b90k")
    hub_cache("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", "README.md")
    assert not is_at_hand("ViT-B-32", "datacomp_xl_s13b_b90k")
    hub_cache("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", file)
    assert is_at_hand("ViT-B-32", "datacomp_xl_s13b_b90k")
    assert not is_at_hand("ViT-B-32", "laion2b_s34b_b79k")


def test_a_file_of_another_name_and_tokenizers_are_looked_for(hub_cache):
    hub_cache("jienengchen/ViTamin-S", "pytorch_model.bin")
    assert is_at_hand("ViTamin-S", "datacomp1b")
    repository = "timm/ViT-B-16-SigLIP2-256"
    for file in ("open_clip_model.safetensors", "tokenizer.json"):
        hub_cache(repository, file)
        assert not is_at_hand("ViT-B-16-SigLIP2-256", "webli")
    hub_cache(repository, "tokenizer_config.json")
    assert is_at_hand("ViT-B-16-SigLIP2-256", "webli")


def test_nothing_is_fetched_within_the_block(hub_cache):
    before = constants.HF_HUB_OFFLINE  # as the environment has it
    with pytest.raises(EncoderError, match="could not be fetched"), nothing_fetched():
        Encoder.load("ViT-B-32", "laion2b_s34b_b79k")
    with nothing_fetched():
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


def test_the_default_is_base_where_its_files_are_and_the_starter_elsewhere(hub_cache, checkpoints, offer, monkeypatch):
    offer("tiny-vit", {"odd": {"hf_hub": "nobody/tiny/", "mean": [0.5] * 3, "std": [0.5] * 3}})
    monkeypatch.setitem(
        NAMED, "base", NamedEncoder("base", "tiny-vit", "odd", "nobody/tiny", 56, 1, 79.1, "", "MIT", 30)
    )
    encoder, sentence = load_default_encoder(device="cpu")
    assert encoder.card.name.startswith("starter")
    assert sentence.startswith("encoder: starter, for trying out")
    assert "the same command with --model base (tiny-vit/odd, 79.1 % zero-shot on ImageNet" in sentence
    assert sentence.endswith("which downloads 0.0 GB")

    state = torch.load(checkpoints["tiny-vit"], weights_only=True)
    torch.save(state, hub_cache("nobody/tiny", "open_clip_pytorch_model.bin"))
    encoder, sentence = load_default_encoder(device="cpu")
    assert encoder.card.name == "tiny-vit/odd"
    assert sentence.startswith("encoder: base (tiny-vit/odd, 79.1 % zero-shot")
    assert "from the hub cache; better: the same command with --model large (PE-Core-L-14-336/meta" in sentence
    assert Encoder.from_spec(encoder.card.spec, device="cpu").card == encoder.card


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert not hub_answers()
    tried = []
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: tried.append(constants.HF_HUB_OFFLINE) or fail())
    for pretrained in ("laion2b_s34b_b79k", "random"):
        with pytest.raises(EncoderUnavailable, match="could not be fetched: not here"):
            Encoder.load("ViT-B-32", pretrained, device="cpu")
    assert tried == [True, False]  # random weights need no hub
    assert not constants.HF_HUB_OFFLINE


def fail():
    raise OSError("not here")
