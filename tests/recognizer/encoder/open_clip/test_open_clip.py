import logging

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch.nn import functional as F

from recognizer.encoder import Encoder, EncoderError, EncoderUnavailable
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.open_clip.image import attention_values

NAMES = ["cat", "red panda", "T-shirt", "a very long name that goes on and on, " * 3, "naïve café", "x" * 400]
TEMPLATES = ["a photo of a {}.", "{}", "a blurry, low-resolution picture of the {} in a garden behind the house"]
MODELS = ["tiny-vit", "tiny-coca-pool", "tiny-resnet", "tiny-pooled", "tiny-convnext", "tiny-one-block"]


def original(name, checkpoints):
    return open_clip.create_model(name, pretrained=checkpoints[name]).eval(), open_clip.get_tokenizer(name)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-pooled"])
def test_names_equal_the_zero_shot_classifier_of_open_clip(name, checkpoints):
    model, tokenizer = original(name, checkpoints)
    expected = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, TEMPLATES).T.numpy()
    encoder = Encoder.load(name, checkpoints[name], device="cpu", precision="fp32")
    texts = [template.format(name) for name in NAMES for template in TEMPLATES]
    means = encoder.encode_texts(texts).reshape(len(NAMES), len(TEMPLATES), -1).mean(axis=1)
    np.testing.assert_allclose(means / np.linalg.norm(means, axis=1, keepdims=True), expected, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_image_vectors_equal_encode_image_and_regions_are_unit_rows(name, checkpoints, pictures):
    model, _ = original(name, checkpoints)
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True)
    features = Encoder.load(name, checkpoints[name], device="cpu", precision="fp32").encode_images(pictures)
    np.testing.assert_allclose(features.image, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.regions, axis=-1), 1, atol=1e-5)
    assert (features.region_weight == 1).all()


@pytest.mark.parametrize(
    ("name", "shape", "source"),
    [
        ("tiny-vit", (1, 50, 32), "value projection"),
        ("tiny-resnet", (1, 50, 32), "value projection"),
        ("tiny-pooled", (1, 50, 64), "pooling head"),
        ("tiny-convnext", (1, 41, 32), "pooling head"),
        ("tiny-one-block", (1, 13, 32), "cut out"),
    ],
)
def test_every_kind_of_tower_says_where_its_regions_come_from(name, shape, source, checkpoints, pictures):
    encoder = Encoder.load(name, checkpoints[name], device="cpu", precision="fp32")
    assert encoder.encode_images(pictures[:1]).regions.shape == shape
    assert source in encoder.region_source


def test_values_are_what_attention_gives_a_position_that_sees_only_itself(checkpoints):
    model, _ = original("tiny-vit", checkpoints)
    block = model.visual.transformer.resblocks[-1]
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    only_itself = torch.full((5, 5), float("-inf")).fill_diagonal_(0)
    with torch.inference_mode():
        expected = block.attention(block.ln_1(x), attn_mask=only_itself)
        torch.testing.assert_close(attention_values(block, x), expected, atol=1e-5, rtol=0)


def test_a_uniform_image_of_an_averaging_tower_looks_alike_in_every_window(checkpoints):
    model, _ = original("tiny-convnext", checkpoints)
    spec = make_spec("tiny-convnext", checkpoints["tiny-convnext"])
    tower = load_parts(spec, device=torch.device("cpu"), precision="fp32").image_tower
    with torch.inference_mode():
        features = model.visual.trunk.forward_features(torch.randn(1, 3, 160, 160))
        whole = tower.project(features.mean(dim=(2, 3)))
        torch.testing.assert_close(whole, model.visual.head(model.visual.trunk.forward_head(features)))


def test_text_past_the_context_is_counted(tiny_vit):
    assert tiny_vit.count_truncated(["cat", "cat " * 75, "cat " * 76]) == 1


def test_the_fingerprint_follows_the_weights_and_not_the_precision(tiny_vit, checkpoints, tmp_path):
    bf16 = Encoder.load("tiny-vit", checkpoints["tiny-vit"], device="cpu", precision="bf16")
    assert bf16.card.fingerprint == tiny_vit.card.fingerprint
    assert bf16.card.precision == "bf16"
    state = torch.load(checkpoints["tiny-vit"], weights_only=True)
    state["visual.proj"][0, 0] += 1e-3
    torch.save(state, tmp_path / "changed.pt")
    changed = Encoder.load("tiny-vit", str(tmp_path / "changed.pt"), device="cpu", precision="fp32")
    assert changed.card.fingerprint != tiny_vit.card.fingerprint


def test_bf16_stays_close_to_fp32(tiny_vit, checkpoints, pictures):
    bf16 = Encoder.load("tiny-vit", checkpoints["tiny-vit"], device="cpu", precision="bf16")
    for a, b in [
        (bf16.encode_texts(NAMES), tiny_vit.encode_texts(NAMES)),
        (bf16.encode_images(pictures).image, tiny_vit.encode_images(pictures).image),
        (bf16.encode_images(pictures).regions, tiny_vit.encode_images(pictures).regions),
    ]:
        assert a.dtype == np.float32
        assert (a * b).sum(axis=-1).min() > 0.998
        np.testing.assert_allclose(np.linalg.norm(a, axis=-1), 1, atol=1e-5)


def test_the_spec_makes_the_same_encoder(tiny_vit):
    again = Encoder.from_spec(tiny_vit.card.spec, device="cpu", precision="fp32")
    assert again.card == tiny_vit.card
    np.testing.assert_array_equal(again.encode_texts(NAMES), tiny_vit.encode_texts(NAMES))


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(checkpoints):
    state = torch.random.get_rng_state()
    first, second = (Encoder.load("tiny-vit", "random", device="cpu").card for _ in range(2))
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model", "pretrained", "kind", "words"),
    [
        ("ViT-Z-99", None, EncoderError, "no model 'ViT-Z-99'. Use"),
        ("ViT-B/32", "random", EncoderError, r"did you mean ViT-B-32\? Use"),
        ("ViT-B32", "random", EncoderError, r"did you mean ViT-B-32\?"),
        ("vit-b-16-siglip", "random", EncoderError, r"did you mean ViT-B-16-SigLIP\?"),
        ("ViT-L/14@336px", None, EncoderError, r"did you mean ViT-L-14-336\?"),
        ("ViT-B-32/quickgelu", None, EncoderError, r"did you mean ViT-B-32-quickgelu\?"),
        ("smal", None, EncoderError, r"did you mean small\? Use starter, small, base, large, a name"),
        ("ViT-B-32", None, EncoderError, "laion2b_s34b_b79k"),
        ("ViT-B-32", "laion9000", EncoderUnavailable, "laion2b_s34b_b79k"),
        ("hf-hub:some/model", "openai", EncoderError, "brings its own weights"),
        ("local-dir:nowhere", None, EncoderUnavailable, "nowhere"),
    ],
)
def test_what_cannot_be_loaded_says_what_can(model, pretrained, kind, words):
    with pytest.raises(kind, match=words):
        Encoder.load(model, pretrained)


def test_without_a_connection_the_missing_model_is_named(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderUnavailable, match=r"hf-hub:nobody/nothing .*could not be fetched.*local-dir"):
        Encoder.load("hf-hub:nobody/nothing")
    with pytest.raises(EncoderUnavailable, match=r"ViT-B-32 \(laion2b_s34b_b79k\).*HF_HOME.*--pretrained TAG=FILE"):
        Encoder.load("ViT-B-32", "laion2b_s34b_b79k")


def test_failures_of_a_download_are_in_the_error_alone(monkeypatch, caplog):
    def retry(model, **options):
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
        logging.error("Failed to download weights")  # on the root logger, as open_clip does
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model", retry)
    with pytest.raises(EncoderUnavailable, match="could not be fetched: no network"):
        Encoder.load("ViT-B-32", "openai")
    assert not caplog.records
    logging.getLogger("huggingface_hub.utils").warning("later")
    assert caplog.messages == ["later"]


def test_quick_gelu_follows_the_tag(monkeypatch):
    seen = {}

    def remember(model, **options):
        seen.update(options)
        raise RuntimeError("stop here")

    monkeypatch.setattr(open_clip, "create_model", remember)
    with pytest.raises(EncoderUnavailable, match="stop here"):
        Encoder.load("ViT-B-32", "openai")
    assert seen["force_quick_gelu"] is True
    assert seen["require_pretrained"] is True


def test_tokens_of_the_attention_pooler_are_unit_queries_apart(checkpoints, pictures):
    encoder = Encoder.load("tiny-coca-pool", checkpoints["tiny-coca-pool"], device="cpu", precision="fp32")
    regions = torch.from_numpy(encoder.encode_images(pictures[:1]).regions[0])
    assert F.cosine_similarity(regions[:1], regions[1:]).min() < 0.9999


@pytest.mark.parametrize("name", MODELS)
def test_what_a_tower_returns_fits_together(name, checkpoints):
    tower = load_parts(make_spec(name, checkpoints[name]), device=torch.device("cpu"), precision="fp32").image_tower
    pixels = torch.randn(2, 3, *tower.preprocessing.size_hw, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output, final = tower.forward(pixels), tower.final_tokens(pixels)
    height, width = output.grid_hw
    assert output.image.shape == (2, tower.dim)
    assert output.tokens.shape[1] == height * width
    assert output.grid().shape == (2, height, width, output.tokens.shape[2])
    if name == "tiny-one-block":
        assert output.tokens.numel() == 0
        return
    assert output.pooled.shape == (2, output.tokens.shape[2])
    with torch.inference_mode():
        assert tower.project(output.tokens[0]).shape == (height * width, tower.dim)
    assert final.grid_hw == output.grid_hw
    if name in ("tiny-vit", "tiny-coca-pool"):  # the class token comes first, of the trunk's width
        assert final.image is None
        assert final.tokens.shape == (2, 1 + height * width, 64)
        assert torch.equal(final.grid().flatten(1, 2), final.tokens[:, 1:])
    else:
        assert torch.equal(final.tokens, output.tokens)


def test_final_tokens_of_a_vit_lead_to_its_image_vector(checkpoints):
    model, _ = original("tiny-vit", checkpoints)
    tower = load_parts(
        make_spec("tiny-vit", checkpoints["tiny-vit"]), device=torch.device("cpu"), precision="fp32"
    ).image_tower
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        class_token = tower.final_tokens(pixels).tokens[:, 0]
        torch.testing.assert_close(class_token @ model.visual.proj, model.encode_image(pixels), atol=1e-5, rtol=1e-4)
