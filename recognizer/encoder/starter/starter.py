"""The encoder whose weights come from the package index: EfficientNet-Lite0 and MiniLM, joined by the classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from recognizer.encoder.device import Precision
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.parts import EncoderParts, apply_trained
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.starter.class_space import ClassSpace
from recognizer.encoder.starter.classifier import ClassifierTower
from recognizer.encoder.starter.efficientnet import EfficientNetLite0
from recognizer.encoder.starter.extended_towers import MappedTextTower
from recognizer.encoder.starter.minilm import DeferredMiniLM, MiniLM
from recognizer.encoder.starter.weights import (
    require_text_package,
    starter_class_vectors,
    starter_image_weights,
    starter_text_folder,
)
from recognizer.encoder.trained_file import TrainedFile
from recognizer.encoder.windows import WindowSettings
from recognizer.images import Geometry

STARTER = "starter"
CONSE, GROUNDED = "conse", "grounded"
GROUNDED_FILE = Path(__file__).parent / "starter_grounded.safetensors"
FINGERPRINT = "ea2d6eb196ba76e9b9982eb84929fcd506c55bcfa519ac696e83aa1115006116"
"""Of the encoder before any training: what `parts.fingerprint` says of the constants below and of the published
weights, whose files are checked when they are read."""

INPUT_SIZE = 320  # side of the model input; its feature map, 10 x 10 cells, makes the regions
# Side of the whole image: the classifier knows whole objects at the 224 pixels that it was trained on.
WHOLE_SIZE = 224
GEOMETRY: Geometry = "letterbox"
TEXT_TEMPERATURE = 0.08  # divides a text's cosines to the classes before the softmax
# Length of a region's vector with full weight, between 0 (all classes equally probable) and 1 (one certain class).
FULL_WEIGHT_LENGTH = 0.8
TEMPLATES = ("a photo of a {}.",)
WINDOWS = WindowSettings(divisions=10, sizes=(3, 5))
# Of the softmax over categories: the least negative log-likelihood on the development fold of the stamps.
CONFIDENCE_TEMPERATURE = 0.08


def starter_spec(pretrained: str | None) -> dict[str, Any]:
    """Return the spec of a starter encoder.

    Args:
        pretrained: `grounded`, the default, has trained text classifiers and a trained grounding decoder; `conse` is
            the encoder before any training.

    Raises:
        EncoderError: It is neither.
    """
    chosen = GROUNDED if pretrained is None else pretrained
    if chosen not in (GROUNDED, CONSE):
        raise EncoderError(f"the starter encoder has no pretrained {chosen!r}; use grounded or conse")
    return {"kind": STARTER, "settings": {"pretrained": chosen}}


def read_starter_settings(settings: Mapping[str, Any]) -> str:
    """Return `pretrained` from the settings of a spec.

    Memories and trained files of earlier versions also name the constants above as settings, and the first ones leave
    out `pretrained`, which means `conse`. They are read as long as the constants are the same.

    Raises:
        EncoderError: A setting is unknown or has another value.
    """
    constants = {
        "input_size": INPUT_SIZE,
        "whole_size": WHOLE_SIZE,
        "geometry": GEOMETRY,
        "temperature": 1.0,
        "text_temperature": TEXT_TEMPERATURE,
        "certain_length": FULL_WEIGHT_LENGTH,
        "templates": list(TEMPLATES),
        "windows": WINDOWS.to_json(),
    }
    other = {name: value for name, value in settings.items() if name != "pretrained" and constants.get(name) != value}
    if other:
        raise EncoderError(f"these settings of the starter encoder are unknown to this version: {other}")
    spec = starter_spec(settings.get("pretrained", CONSE))
    return str(spec["settings"]["pretrained"])


def load_starter(pretrained: str, *, device: torch.device, precision: Precision) -> EncoderParts:
    """Make the starter encoder. Its text tower is read at the first text.

    The embeddings of the classes come from a file, so that the joint space is the same in every precision and loading
    encodes nothing; `training.starter.classes` made it.

    Args:
        pretrained: `grounded` or `conse`.
        device: Where to compute.
        precision: What to compute in.

    Raises:
        EncoderUnavailable: If its weights are not installed or not the published ones.
    """
    preprocessing = Preprocessing(
        size_hw=(INPUT_SIZE, INPUT_SIZE),
        geometry=GEOMETRY,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        fill=255,
    )
    require_text_package()
    classes = load_file(starter_class_vectors())
    space = ClassSpace(classes["class_vectors"].to(device), text_temperature=TEXT_TEMPERATURE)
    bf16 = precision == "bf16"

    def load_sentences() -> MiniLM:
        sentences = MiniLM.load(starter_text_folder(), device)
        return sentences.cast(torch.bfloat16) if bf16 else sentences

    parts = EncoderParts(
        name="starter (EfficientNet-Lite0 + MiniLM, class space)",
        fingerprint=FINGERPRINT,
        spec=starter_spec(pretrained),
        image_tower=ClassifierTower(
            load_classifier().to(device),
            preprocessing,
            space,
            whole_size=WHOLE_SIZE,
            full_weight_length=FULL_WEIGHT_LENGTH,
            bf16=bf16,
        ),
        text_tower=MappedTextTower(DeferredMiniLM(load_sentences), space.embed_texts, dim=space.dim),
        templates=TEMPLATES,
        windows=WINDOWS,
        temperature=CONFIDENCE_TEMPERATURE,
    )
    if pretrained == CONSE:
        return parts
    name = "starter (EfficientNet-Lite0 + MiniLM, class space, grounding decoder)"
    return apply_trained(parts, TrainedFile.read(GROUNDED_FILE), name=name, device=device)


def load_classifier() -> EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights, whose file has the tensors in our order, under other names."""
    with torch.device("meta"):  # drawing weights and copying others over them would take longer than reading those
        model = EfficientNetLite0()
    checkpoint = torch.load(starter_image_weights(), map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), checkpoint.values(), strict=True)), assign=True)
    return model.eval().requires_grad_(requires_grad=False)
