"""Small open_clip models with fixed random weights, saved as checkpoints."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import tests.tokenizer_once  # noqa: F401  models load faster
from recognizer.encoder import Encoder

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
_TIMM = {"image_size": 160, "timm_proj": "linear"}
_CONFIGS = {
    "tiny-vit": {"vision_cfg": {"image_size": 56, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8}},
    "tiny-coca-pool": {
        "vision_cfg": {"image_size": 56, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
        | {"attentional_pool": True, "attn_pooler_heads": 4},
    },
    "tiny-resnet": {"vision_cfg": {"image_size": 224, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}},
    "tiny-pooled": {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": _TIMM | {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": _TEXT | {"no_causal_mask": True, "pool_type": "last"},
    },
    "tiny-convnext": {"vision_cfg": _TIMM | {"timm_model_name": "test_convnext", "timm_pool": "avg"}},
    "tiny-one-block": {"vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 16, "patch_size": 8}},
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoint path of each small model."""
    folder = tmp_path_factory.mktemp("open_clip")
    paths = {}
    for name, config in _CONFIGS.items():
        config_path = folder / f"{name}.json"
        config_path.write_text(json.dumps({"embed_dim": 32, "text_cfg": _TEXT} | config))
        open_clip.add_model_config(config_path)
        torch.manual_seed(len(paths))
        paths[name] = str(folder / f"{name}.pt")
        model = open_clip.create_model(name)
        if name == "tiny-resnet":  # open_clip starts the last norm of each block at 0, which hides the blocks
            for parameter in model.visual.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
        torch.save(model.state_dict(), paths[name])
    return paths


@pytest.fixture(scope="session")
def tiny_vit(checkpoints: dict[str, str]) -> Encoder:
    return Encoder.load("tiny-vit", checkpoints["tiny-vit"], device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Smooth random pictures of several shapes."""
    noise = np.random.default_rng(0)
    sizes = [(80, 60), (60, 80), (224, 224), (33, 200)]
    coarse = [Image.fromarray(noise.integers(0, 256, (5, 7, 3), dtype=np.uint8)) for _ in sizes]
    return [image.resize(size, Image.Resampling.BICUBIC) for image, size in zip(coarse, sizes, strict=True)]
