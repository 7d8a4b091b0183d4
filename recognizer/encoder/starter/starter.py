"""The encoder that installs from the package index alone: EfficientNet-Lite0, MiniLM, and the classes between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from recognizer.encoder.device import Precision
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.preprocessing import Geometry, Preprocessing
from recognizer.encoder.starter.class_space import ClassSpace
from recognizer.encoder.starter.classifier import ClassifierTower
from recognizer.encoder.starter.minilm import MiniLM
from recognizer.encoder.starter.weights import starter_image_weights, starter_text_folder
from recognizer.encoder.starter.wider_towers import MappedTextTower
from recognizer.encoder.towers import EncoderParts
from recognizer.encoder.trained_file import GroundedFile, apply_trained, fingerprint
from recognizer.encoder.windows import WindowSettings

STARTER = "starter"
CONSE, GROUNDED = "conse", "grounded"
GROUNDED_FILE = Path(__file__).parent / "starter_grounded.safetensors"
CLASSES_FILE = Path(__file__).parent / "starter_classes.safetensors"
# Of the softmax over categories: the least negative log-likelihood on the development fold of the stamps.
CONFIDENCE_TEMPERATURE = 0.08
_ARCHITECTURE = "tf_efficientnet_lite0"
_INPUT_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class StarterSettings:
    """What can be chosen about the starter encoder without training it.

    `certain_length` and `windows` say how `conse` finds regions. They and `templates` leave the fingerprint alone; all
    else changes the vectors of texts or whole images.

    Attributes:
        input_size: Side of the square model input in pixels, a multiple of 32; its feature map makes the regions.
        whole_size: Side to which the input is reduced for the whole-image vector, a multiple of 32. The classifier
            knows whole objects at the 224 pixels it was trained on, and small ones better on a finer map.
        geometry: How a picture is laid into it.
        temperature: Divides the classifier's logits before the softmax.
        text_temperature: Divides a text's cosines to the classes before the softmax.
        certain_length: Length of a region's vector, between 0 (every class as probable as any other) and 1,
            from which on the region has full weight; 0 gives every region full weight.
        templates: Texts around a category name, with `{}` for the name.
        windows: The regions.
        pretrained: `grounded` adds the trained grounding decoder, `conse` is the encoder before any training.
    """

    input_size: int = 320
    whole_size: int = 224
    geometry: Geometry = "letterbox"
    temperature: float = 1.0
    text_temperature: float = 0.08
    certain_length: float = 0.8
    templates: tuple[str, ...] = ("a photo of a {}.",)
    windows: WindowSettings = field(default_factory=lambda: WindowSettings(divisions=10, sizes=(3, 5)))
    pretrained: str = GROUNDED

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            EncoderError: If one is out of its range.
        """
        if self.pretrained not in (GROUNDED, CONSE):
            raise EncoderError(f"pretrained {self.pretrained!r} is no starter encoder; use grounded or conse")
        for size in (self.input_size, self.whole_size):
            if size < _INPUT_MULTIPLE or size % _INPUT_MULTIPLE:
                raise EncoderError(f"input size {size} must be a positive multiple of {_INPUT_MULTIPLE}")
        if not (self.temperature > 0 and self.text_temperature > 0):
            raise EncoderError(f"temperature {self.temperature} and {self.text_temperature} must be positive")
        if not self.certain_length >= 0:
            raise EncoderError(f"certain_length {self.certain_length} must not be negative")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        settings = asdict(self)
        settings["templates"] = list(self.templates)
        settings["windows"] = self.windows.to_json()
        return settings

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StarterSettings:
        """Read what `to_json` wrote.

        Raises:
            EncoderError: If a key is unknown.
        """
        unknown = set(values) - {known.name for known in fields(cls)}
        if unknown:
            raise EncoderError(f"unknown starter settings {sorted(unknown)}")
        chosen = {"pretrained": CONSE, **values}  # specs older than the trained starter do not say it
        if "templates" in chosen:
            chosen["templates"] = tuple(chosen["templates"])
        if "windows" in chosen:
            chosen["windows"] = WindowSettings.from_json(chosen["windows"])
        return cls(**chosen)


def load_starter(settings: StarterSettings, *, device: torch.device, precision: Precision) -> EncoderParts:
    """Make the starter encoder.

    The embeddings of the classes come from a file, so that the joint space is the same in every precision and loading
    encodes nothing; `training.starter.classes` made it.

    Raises:
        EncoderUnavailable: If its weights are not installed or not the published ones.
    """
    preprocessing = Preprocessing(
        size_hw=(settings.input_size, settings.input_size),
        geometry=settings.geometry,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        fill=255,
    )
    classifier = _load_classifier()
    sentences = MiniLM.load(starter_text_folder(), device)
    classes = load_file(CLASSES_FILE)
    identity = {
        "architecture": [_ARCHITECTURE, "MiniLM", "class space"],
        "temperature": settings.temperature,
        "text_temperature": settings.text_temperature,
        "whole_size": settings.whole_size,
        "tokenizer": sentences.describe_tokenizer(),
        "preprocessing": preprocessing.to_json(),
    }
    weights = {f"image.{name}": tensor for name, tensor in classifier.state_dict().items()}
    weights |= {f"text.{name}": tensor for name, tensor in sentences.tensors.items()}
    weights |= classes
    hexdigest = fingerprint(identity, weights)

    space = ClassSpace(
        classes["class_vectors"].to(device),
        temperature=settings.temperature,
        text_temperature=settings.text_temperature,
    )
    bf16 = precision == "bf16"
    parts = EncoderParts(
        name="starter (EfficientNet-Lite0 + MiniLM, class space)",
        fingerprint=hexdigest,
        spec={"kind": STARTER, "settings": settings.to_json()},
        image_tower=ClassifierTower(
            classifier.to(device),
            preprocessing,
            space,
            whole_size=settings.whole_size,
            certain_length=settings.certain_length,
            bf16=bf16,
        ),
        text_tower=MappedTextTower(
            sentences.cast(torch.bfloat16) if bf16 else sentences, space.embed_texts, dim=space.dim
        ),
        templates=settings.templates,
        windows=settings.windows,
        temperature=CONFIDENCE_TEMPERATURE,
    )
    if settings.pretrained == CONSE:
        return parts
    name = "starter (EfficientNet-Lite0 + MiniLM, class space, grounding decoder)"
    return apply_trained(parts, GroundedFile.read(GROUNDED_FILE), name=name, device=device)


def _load_classifier() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, whose tensors lie in timm's order under other names."""
    import timm

    model: torch.nn.Module = timm.create_model(_ARCHITECTURE, pretrained=False)
    checkpoint = torch.load(starter_image_weights(), map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), checkpoint.values(), strict=True)))
    return model.eval()
