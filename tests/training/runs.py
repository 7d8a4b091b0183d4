"""A tiny model, a few pictures and the configs to train the one on the others."""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

import tests.tokenizer_once  # noqa: F401  models load faster
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.preprocessing import Preprocessing
from training.config import TrainConfig
from training.data.loader import Loader, Pictures
from training.data.sources import open_sources
from training.engine import Engine
from training.model import GroundedModel

SIZE = 32
CPU = torch.device("cpu")
PREPROCESSING = Preprocessing((SIZE, SIZE), "squash", (0.5,) * 3, (0.5,) * 3)  # of the tiny model
_MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_model(folder: Path, **changes):
    """Save a tiny CLIP that `local-dir:FOLDER` loads, in any process; its preprocessing squashes."""
    torch.manual_seed(0)
    folder.mkdir()
    config = _MODEL | changes
    network = open_clip.CLIP(**config)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def write_data(folder: Path, count=16, *, bad=()):
    """Save pictures of one or two coloured squares on grey, every fourth without boxes; `bad` are further lines."""
    colours = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250), "white": (255, 255, 255)}
    folder.mkdir(exist_ok=True)
    rng, lines = np.random.default_rng(0), []
    for number in range(count):
        picture = np.full((48, 64, 3), 90, np.uint8)
        regions, words = [], []
        for place in range(1 + number % 2):
            name = list(colours)[(number + place) % 4]
            left, top = int(rng.integers(32 * place, 32 * place + 12)), int(rng.integers(0, 28))
            picture[top : top + 20, left : left + 20] = colours[name]
            box = [left, top, left + 20, top + 20]
            regions.append({"box_xyxy": box, "descriptions": [f"{name} square", f"something {name}"]})
            words.append(name)
        Image.fromarray(picture).save(folder / f"{number}.png")
        captions = [f"picture {number} of {' and '.join(words)}", f"{' '.join(words)} in view {number}"]
        lines.append({"image": f"{number}.png", "captions": captions, "regions": regions if number % 4 else []})
    path = folder / "train.jsonl"
    path.write_text("".join(text if isinstance(text, str) else json.dumps(text) + "\n" for text in [*lines, *bad]))
    return path


def write_labelled(folder):
    """Pictures in folders of their category."""
    data = write_data(folder / "shown", 8)
    for number in range(8):
        target = folder / "labelled" / ("even", "odd")[number % 2]
        target.mkdir(parents=True, exist_ok=True)
        (data.parent / f"{number}.png").rename(target / f"{number}.png")
    (folder / "labels.txt").write_text("even\nodd\n")
    return {"name": "parity", "labels": str(folder / "labels.txt"), "images": str(folder / "labelled")}


def merged(below, above):
    return below | {
        key: merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }


def make_settings(model, data, /, **changes):
    """Settings of a quick run without any randomness in the model."""
    decoder = {"layers": 1, "width": 32, "heads": 2, "feedforward": 32, "dropout": 0.0, "queries": 4}
    plain = {
        "encoder": {"model": model},
        "decoder": decoder,
        "image_tower": {"lr_share": 0.5},
        "text_tower": {"lr_share": 0.5},
        "data": {"train": [str(data)]},
        "optimizer": {"lr": 1e-3},
        "schedule": {"epochs": 2},
        "batch_size": 4,
        "log_every": 1,
    }
    return merged(plain, changes)


def make_config(model, data, /, **changes):
    return TrainConfig.model_validate(make_settings(model, data, **changes))


def make_model(config, device=CPU):
    torch.manual_seed(0)
    parts = load_parts(make_spec(config.encoder.model, config.encoder.pretrained), device=device, precision="fp32")
    return GroundedModel(parts, config, device)


def make_loader(config, samples=None, **more):
    """A loader of the tiny model's inputs, or of the given samples."""
    source, settings = open_sources(config.data.train), config.data.samples
    samples = samples or Pictures(source, settings, PREPROCESSING)
    size = config.batch_size * config.accumulate
    return Loader(source, samples, settings, batch_size=size, seed=config.seed, **more)


def first_batch(config, **more):
    return next(iter(make_loader(config, **more)))


def gradients(config, batch, *, train=True, device=CPU):
    """Terms and gradients of one batch, for weights that depend on the config's architecture alone."""
    model = make_model(config, device).train(train)
    engine = Engine(model, config, device, steps_per_epoch=10)
    torch.manual_seed(1)
    terms = {name: float(term) for name, term in engine.backward(batch).items()}
    return terms, {
        name: (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()).cpu()
        for name, parameter in model.trained.items()
    }


def largest_difference(some, others):
    """Of all values, as a share of the largest one where that is above 1."""
    assert some.keys() == others.keys()
    whole = max(1.0, max(float(value.abs().max()) for value in others.values()))
    return max(float((value - others[name]).abs().max()) for name, value in some.items()) / whole
