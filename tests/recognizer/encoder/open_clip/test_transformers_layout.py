"""Files in the layout of Hugging Face Transformers: their vectors are those of Transformers' own models."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from recognizer.encoder import Encoder, EncoderUnavailable
from recognizer.encoder.open_clip.transformers_layout import from_transformers, is_transformers_layout

TEXTS = ["a photo of a cat.", "red panda", "a very long name that goes on and on, " * 9]
CONTEXT = 16
_TOWER = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT = _TOWER | {"vocab_size": 49408, "max_position_embeddings": CONTEXT}
_VISION = _TOWER | {"image_size": 32, "patch_size": 8}
_OPEN_CLIP_TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}


def small_siglip_trunk(pretrained=False, **options):
    """Build timm's vision transformer as its SigLIP models are, but small."""
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4}
    options = {name: options[name] for name in ("num_classes", "global_pool")}
    return timm.models.vision_transformer.VisionTransformer(**size, class_token=False, act_layer="gelu_tanh", **options)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Transformers' models with random weights in folders, and the open_clip architectures that fit them."""
    folder = tmp_path_factory.mktemp("transformers")
    timm.models.register_model(small_siglip_trunk)
    configs = {  # open_clip asks for SigLIP's tokenizer where the name holds "siglip"
        "hf-clip": {
            "embed_dim": 32,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
            "text_cfg": _OPEN_CLIP_TEXT,
        },
        "hf-sigmoid": {
            "embed_dim": 64,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 32,
                "timm_model_name": "small_siglip_trunk",
                "timm_pool": "map",
                "timm_proj": "none",
            },
            "text_cfg": _OPEN_CLIP_TEXT
            | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
            | {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}},
        },
    }
    for name, config in configs.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
    torch.manual_seed(0)
    eos = {"eos_token_id": 49407, "bos_token_id": 49406}
    made = {
        "hf-clip": CLIPModel(CLIPConfig(text_config=_TEXT | eos, vision_config=_VISION, projection_dim=32)),
        "hf-sigmoid": SiglipModel(
            SiglipConfig(text_config=_TEXT | eos | {"projection_size": 64}, vision_config=_VISION)
        ),
    }
    for name, model in made.items():
        for parameter in model.parameters():  # biases too, which start at 0
            torch.nn.init.normal_(parameter, std=0.2)
        model.logit_scale.data.fill_(3.0)
        model.eval().save_pretrained(folder / name)
    return folder, made


def write_image_config(folder, **config):
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "prepared", "quick_gelu"),
    [
        (
            "hf-clip",
            {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "resample": 3, "do_center_crop": True},
            True,
        ),
        ("hf-sigmoid", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}, False),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_vectors_equal_those_of_transformers(name, prepared, quick_gelu, suffix, models, pictures):
    folder, made = models
    write_image_config(folder / name, **prepared)
    file = folder / name / f"model{suffix}"
    if suffix == ".bin":
        torch.save(made[name].state_dict(), file)
    encoder = Encoder.load(name, str(file), device="cpu", precision="fp32")
    assert encoder.card.spec["settings"]["quick_gelu"] is quick_gelu
    assert encoder.card.spec["settings"]["mean"] == prepared["image_mean"]

    pixels, frames = zip(*[encoder.preprocess(picture) for picture in pictures], strict=True)
    mean, std = (torch.tensor(prepared[key])[:, None, None] for key in ("image_mean", "image_std"))
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(name)(TEXTS, context_length=CONTEXT)
        texts = made[name].get_text_features(tokens).pooler_output
        images = made[name].get_image_features((torch.stack(pixels) / 255 - mean) / std).pooler_output
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), F.normalize(texts).numpy(), atol=1e-5)
    features = encoder.encode_pixels(torch.stack(pixels), frames)
    np.testing.assert_allclose(features.image, F.normalize(images).numpy(), atol=1e-5)
    assert encoder.default_temperature == pytest.approx(np.exp(-3))


@pytest.mark.parametrize("name", ["hf-clip", "hf-sigmoid"])
def test_every_tensor_of_the_network_comes_from_the_file(name, models):
    _, made = models
    state = made[name].state_dict()
    assert is_transformers_layout(state)
    converted = from_transformers(state | {"vision_model.embeddings.position_ids": torch.arange(17)[None]})
    expected = open_clip.create_model(name).state_dict()
    assert {key: value.shape for key, value in converted.items()} == {k: v.shape for k, v in expected.items()}
    assert not is_transformers_layout(converted)


def test_a_file_of_another_size_says_which_tensors_do_not_fit(models):
    folder, _ = models
    with pytest.raises(
        EncoderUnavailable, match=r"converted to open_clip's does not fit; it lacks .* it has .* others"
    ):
        Encoder.load("hf-sigmoid", str(folder / "hf-clip" / "model.safetensors"), device="cpu")
