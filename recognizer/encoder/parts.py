"""The parts that make an encoder: towers and a decoder, and how trained weights are put into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from recognizer.encoder.anchor_decoder import AnchorDecoder
from recognizer.encoder.decoder import DecoderSettings, GroundingDecoder, QueryDecoder
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.starter.extended_towers import ExtendedImageTower, MappedTextTower
from recognizer.encoder.starter.text_classifiers import TextClassifiers, TextClassifierSettings
from recognizer.encoder.towers import ImageTower, TextTower
from recognizer.encoder.trained_file import TrainedFile
from recognizer.encoder.windows import WindowSettings

_MOST_NAMED = 5  # faults in one message


@dataclass(frozen=True, slots=True)
class LogitScale:
    """The learned numbers of the contrastive loss that a checkpoint was trained with.

    Attributes:
        scale: Multiplies cosines.
        bias: Is added to them, of a sigmoid loss (SigLIP); None: the loss is a softmax (CLIP), which has none.
    """

    scale: float
    bias: float | None


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """Everything that is needed to make an `Encoder`.

    Attributes:
        name: What people call the encoder.
        fingerprint: Hash over architecture, weights, tokenizer and preprocessing.
        spec: JSON values from which `Encoder.from_spec` makes the same encoder again.
        image_tower: Already on its device, in its precision.
        text_tower: Likewise.
        templates: Texts around a category name that suit the model, with `{}` for the name.
        windows: The regions, where there is no decoder.
        temperature: Divides cosines before a softmax over categories, until one is fitted.
        logit_scale: Of the checkpoint's contrastive loss; None where it had no such loss.
        decoder: Finds the regions, where there is one.
        trained: The file whose weights are in the parts; None before any training.
        towers: Hash as `fingerprint`, without the decoder; empty where it is the same.
    """

    name: str
    fingerprint: str
    spec: dict[str, Any]
    image_tower: ImageTower
    text_tower: TextTower
    templates: tuple[str, ...]
    windows: WindowSettings
    temperature: float
    logit_scale: LogitScale | None = None
    decoder: GroundingDecoder | None = None
    trained: TrainedFile | None = None
    towers: str = ""

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""
        return self.image_tower.dim

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become pixels."""
        return self.image_tower.preprocessing

    @property
    def region_source(self) -> str:
        """Where region vectors come from, in words for people."""
        return self.image_tower.region_source if self.decoder is None else "grounding decoder"

    @property
    def has_decoder(self) -> bool:
        """Whether a grounding decoder finds the regions."""
        return self.decoder is not None

    @property
    def tower_fingerprint(self) -> str:
        """Hash of everything that makes tokens, pooled features and text vectors: the same under every decoder."""
        return self.towers or self.fingerprint


def fingerprint(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash everything that an encoder computes with.

    Call it before weights are cast or folded, so that one encoder has one fingerprint in every precision.

    Args:
        description: Architecture, tokenizer and preprocessing as JSON values.
        tensors: The weights by name, in the format they were loaded in; their order does not matter.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def make_decoder(settings: DecoderSettings, tower: ImageTower, device: torch.device) -> GroundingDecoder:
    """Make a decoder of random weights that fits a tower: learned queries, or anchors where the settings have them.

    Raises:
        EncoderError: The tower has no tokens.
    """
    grid_hw, tokens, token_dim = _token_shape(tower, device, projected=settings.anchors is not None)
    if not tokens:
        raise EncoderError(
            f"{type(tower.network).__name__} gives no tokens that a grounding decoder could read; train without one"
        )
    decoder: GroundingDecoder
    if settings.anchors is None:
        decoder = QueryDecoder(settings, token_dim=token_dim, dim=tower.dim)
    else:
        decoder = AnchorDecoder(settings, token_dim=token_dim, grid_hw=grid_hw, project=tower.project)
    return decoder.to(device)


def _token_shape(tower: ImageTower, device: torch.device, *, projected: bool) -> tuple[tuple[int, int], int, int]:
    """Return the token grid, N and C of a tower, which those of open_clip show only in a pass."""
    if tower.token_shape is not None:
        (height, width), channels = tower.token_shape
        return (height, width), height * width, channels
    blank = torch.zeros(1, 3, *tower.preprocessing.size_hw, device=device)
    with torch.inference_mode():
        output = tower.forward(blank) if projected else tower.final_tokens(blank)
    _, tokens, channels = output.tokens.shape
    return output.grid_hw, tokens, channels


def apply_trained(parts: EncoderParts, trained: TrainedFile, *, name: str, device: torch.device) -> EncoderParts:
    """Put trained weights into the encoder that training started from.

    Args:
        parts: Made from `trained.base`; its networks are changed in place.
        trained: The weights.
        name: Of the result, for people.
        device: Where the networks are.

    Raises:
        EncoderError: The weights are of another architecture; the message says what differs.
    """
    load_weights(parts.image_tower.network, trained.part("image"), "image tower", partly=True)
    text_weights = trained.part("text")
    if text_weights:
        if parts.text_tower.network is None:
            raise EncoderError("there are weights for a text tower that cannot be trained")
        load_weights(parts.text_tower.network, text_weights, "text tower", partly=True)
    if trained.text_classifiers is not None:
        parts = _extend_towers(parts, trained.text_classifiers, trained.part("text_classifiers"), device)
    decoder = None
    if trained.decoder is not None:
        decoder = make_decoder(trained.decoder, parts.image_tower, device)
        load_weights(decoder, trained.part("decoder"), "decoder")
        decoder.eval().requires_grad_(requires_grad=False)
    identity, towers = _fingerprints(parts, trained)
    return replace(parts, name=name, fingerprint=identity, decoder=decoder, trained=trained, towers=towers)


def _fingerprints(base: EncoderParts, trained: TrainedFile) -> tuple[str, str]:
    """Return the fingerprints of a trained encoder and of its towers alone."""
    decoder = trained.decoder_header
    if decoder is None and trained.decoder is not None:
        decoder = trained.decoder.model_dump(mode="json")
    described: dict[str, object] = {"base": base.fingerprint, "decoder": decoder}
    classifiers = trained.text_classifiers and trained.text_classifiers.model_dump(mode="json")
    if classifiers is not None:
        described["written"] = classifiers  # the name they have in files
    towers = base.tower_fingerprint
    tower_tensors = trained.without_decoder()
    if tower_tensors:
        towers = fingerprint({"base": towers, "written": classifiers}, tower_tensors)
    return fingerprint(described, trained.tensors), towers


def _extend_towers(
    parts: EncoderParts, settings: TextClassifierSettings, tensors: Mapping[str, Tensor], device: torch.device
) -> EncoderParts:
    """Extend the joint space of both towers by text classifiers."""
    channels = tensors["mean"].numel() if "mean" in tensors else 0  # 0: `load_weights` names what is missing
    classifiers = TextClassifiers(settings, token_dim=channels)
    load_weights(classifiers, tensors, "set of text classifiers")
    classifiers.to(device).eval()
    image_tower = ExtendedImageTower(parts.image_tower, classifiers)
    text_tower = MappedTextTower(parts.text_tower, classifiers.extend_texts, dim=image_tower.dim)
    return replace(parts, image_tower=image_tower, text_tower=text_tower, temperature=settings.temperature)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], what: str, *, partly: bool = False) -> None:
    """Copy tensors into a module, converting number formats.

    Args:
        module: Receives them.
        tensors: By the names they have in the module.
        what: The module, in words for people.
        partly: Whether tensors of the module may be missing.

    Raises:
        EncoderError: Names or shapes differ; the message says which.
    """
    expected = module.state_dict()
    faults = [f"{name} is unknown" for name in sorted(tensors.keys() - expected.keys())]
    if not partly:
        faults += [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    faults += [
        f"{name} has shape {tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and expected[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise EncoderError(f"these weights are of another {what}: {'; '.join(faults[:_MOST_NAMED])}{more}")
    module.load_state_dict(dict(tensors), strict=False)
