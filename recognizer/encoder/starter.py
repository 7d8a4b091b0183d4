"""The encoder that installs from the package index alone: EfficientNet-Lite0, MiniLM, and ConSE between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from recognizer.encoder.classifier_image import ClassifierTower
from recognizer.encoder.conse import CentredTextTower, ConSE
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.fingerprint import fingerprint
from recognizer.encoder.minilm import MiniLM
from recognizer.encoder.precision import Precision
from recognizer.encoder.preprocessing import Geometry, Preprocessing
from recognizer.encoder.text_batches import encode_in_buckets
from recognizer.encoder.towers import EncoderParts
from recognizer.encoder.weights import starter_image_weights, starter_text_folder
from recognizer.encoder.windows import WindowSettings

_ARCHITECTURE = "tf_efficientnet_lite0"
_INPUT_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class StarterSettings:
    """What can be chosen about the starter encoder without training it.

    All but `certain_length`, `templates` and `windows` change the vectors of texts or whole images, and with them
    the fingerprint.

    Attributes:
        input_size: Side of the square model input in pixels, a multiple of 32.
        geometry: How a picture is laid into it.
        temperature: Divides the classifier's logits before the softmax.
        top_classes: How many of the most probable classes make up an image's vector; None for all.
        class_form: Text that stands for a class in ConSE, with `{}` for its name.
        certain_length: Length of a region's ConSE vector, between 0 (every class as probable as any other) and 1,
            from which on the region has full weight; 0 gives every region full weight.
        templates: Texts around a category name, with `{}` for the name.
        windows: The regions.
    """

    input_size: int = 224
    geometry: Geometry = "squash"
    temperature: float = 1.0
    top_classes: int | None = None
    class_form: str = "{}"
    certain_length: float = 0.2
    templates: tuple[str, ...] = ("{}",)
    windows: WindowSettings = field(default_factory=WindowSettings)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            EncoderError: If one is out of its range.
        """
        if self.input_size < _INPUT_MULTIPLE or self.input_size % _INPUT_MULTIPLE:
            raise EncoderError(f"input_size {self.input_size} must be a positive multiple of {_INPUT_MULTIPLE}")
        if not self.temperature > 0:
            raise EncoderError(f"temperature {self.temperature} must be positive")
        if not self.certain_length >= 0:
            raise EncoderError(f"certain_length {self.certain_length} must not be negative")
        if self.top_classes is not None and self.top_classes < 1:
            raise EncoderError(f"top_classes {self.top_classes} must be at least 1, or None for all")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        settings = asdict(self)
        settings["templates"] = list(self.templates)
        settings["windows"]["sizes"] = list(self.windows.sizes)
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
        chosen = dict(values)
        if "templates" in chosen:
            chosen["templates"] = tuple(chosen["templates"])
        if "windows" in chosen:
            windows = dict(chosen["windows"])
            chosen["windows"] = WindowSettings(**{**windows, "sizes": tuple(windows["sizes"])})
        return cls(**chosen)


def load_starter(settings: StarterSettings, *, device: torch.device, precision: Precision) -> EncoderParts:
    """Make the starter encoder.

    The classes are embedded in fp32 in every precision, so that the joint space itself is always the same.

    Raises:
        EncoderUnavailable: If its weights are not installed or not the published ones.
    """
    from open_clip import IMAGENET_CLASSNAMES

    preprocessing = Preprocessing(
        size_hw=(settings.input_size, settings.input_size),
        geometry=settings.geometry,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        fill=127,
    )
    classifier = _load_classifier()
    sentences = MiniLM.load(starter_text_folder(), device)
    classes = [settings.class_form.format(name) for name in IMAGENET_CLASSNAMES]
    identity = {
        "architecture": [_ARCHITECTURE, "MiniLM", "ConSE"],
        "temperature": settings.temperature,
        "top_classes": settings.top_classes,
        "classes": classes,
        "tokenizer": sentences.describe_tokenizer(),
        "preprocessing": preprocessing.to_json(),
    }
    weights = {f"image.{name}": tensor for name, tensor in classifier.state_dict().items()}
    weights |= {f"text.{name}": tensor for name, tensor in sentences.tensors.items()}
    hexdigest = fingerprint(identity, weights)

    class_vectors = torch.from_numpy(encode_in_buckets(sentences, classes, device=device)).to(device)
    space = ConSE(class_vectors, temperature=settings.temperature, top_classes=settings.top_classes)
    bf16 = precision == "bf16"
    return EncoderParts(
        name="starter (EfficientNet-Lite0 + MiniLM, ConSE)",
        fingerprint=hexdigest,
        spec={"kind": "starter", "settings": settings.to_json()},
        image_tower=ClassifierTower(
            classifier.to(device),
            preprocessing,
            space,
            dim=sentences.dim,
            certain_length=settings.certain_length,
            bf16=bf16,
        ),
        text_tower=CentredTextTower(sentences.cast(torch.bfloat16) if bf16 else sentences, space),
        templates=settings.templates,
        windows=settings.windows,
    )


def _load_classifier() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, whose tensors lie in timm's order under other names."""
    import timm

    model: torch.nn.Module = timm.create_model(_ARCHITECTURE, pretrained=False)
    checkpoint = torch.load(starter_image_weights(), map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), checkpoint.values(), strict=True)))
    return model.eval()
