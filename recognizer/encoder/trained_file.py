"""Encoders that training made: the file they are kept in, and the way back.

One safetensors file holds what training changed (the decoder, and those networks that were not frozen) and, in its
header, the spec of the encoder that training started from, so that frozen weights are kept once, where they came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from recognizer.encoder.decoder import DecoderSettings, GroundingDecoder
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.starter.text_classifiers import Written, WrittenSettings
from recognizer.encoder.starter.wider_towers import MappedTextTower, WrittenImageTower
from recognizer.encoder.towers import EncoderParts, ImageTower


def fingerprint(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash what an encoder computes with.

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


FORMAT = "recognizer-encoder-1"
_MOST_NAMED = 5
_PREFIXES = {"decoder": "decoder.", "image": "image.", "text": "text.", "written": "written."}


@dataclass(frozen=True, slots=True)
class GroundedFile:
    """What a file of a trained encoder holds.

    Attributes:
        base: spec of the encoder training started from.
        decoder: settings of its decoder; None where only towers were trained.
        card: how it was trained and what it reached; JSON values.
        tensors: weights by name: `decoder.…`, `image.…`, `text.…`, `written.…`, and others that only training needs.
        written: settings of its classifiers; None where there are none.
    """

    base: Mapping[str, Any]
    decoder: DecoderSettings | None
    card: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    written: WrittenSettings | None = None

    def to_bytes(self) -> bytes:
        """Return the file's content; the same for the same values."""
        header = {
            "base": dict(self.base),
            "decoder": self.decoder.model_dump(mode="json") if self.decoder else None,
            "written": self.written.model_dump(mode="json") if self.written else None,
            "card": dict(self.card),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return save(tensors, metadata={FORMAT: json.dumps(header, sort_keys=True)})  # several keys come in any order

    @classmethod
    def read(cls, path: Path) -> GroundedFile:
        """Read a file that `to_bytes` made; nothing in it is executed.

        Raises:
            EncoderUnavailable: it cannot be read.
            EncoderError: it is another kind of file.
        """
        try:
            with safe_open(path, framework="pt") as opened:
                header = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
        except (OSError, SafetensorError) as error:
            raise EncoderUnavailable(f"cannot read the encoder {path}: {error}") from error
        if FORMAT not in header:
            raise EncoderError(f"{path} is no encoder of this project: {FORMAT} is not in its header")
        try:
            values = json.loads(header[FORMAT])
            decoder = None if values["decoder"] is None else DecoderSettings.model_validate(values["decoder"])
            given = values.get("written")  # files of earlier versions do not say it
            written = None if given is None else WrittenSettings.model_validate(given)
            return cls(values["base"], decoder, values["card"], tensors, written)
        except (KeyError, ValueError, ValidationError) as error:
            raise EncoderError(f"the header of {path} cannot be read: {error}") from error

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of `decoder`, `image`, `text` or `written` under the names they have in that module."""
        prefix = _PREFIXES[name]
        return {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}


def written_tensors(written: Written) -> dict[str, Tensor]:
    """Return what a file keeps of classifiers, in float16, under the names it has there."""
    return {f"{_PREFIXES['written']}{name}": value.half() for name, value in written.state_dict().items()}


def make_decoder(settings: DecoderSettings, tower: ImageTower, device: torch.device) -> GroundingDecoder:
    """Make a decoder of random weights that fits a tower.

    Raises:
        EncoderError: it does not.
    """
    blank = torch.zeros(1, 3, *tower.preprocessing.size_hw, device=device)
    try:
        with torch.inference_mode():
            given = tower.decoder_input(blank, dense=settings.residual is not None)
        return GroundingDecoder(settings, token_dim=given.tokens.shape[-1], dim=tower.dim, grid_hw=given.grid_hw).to(
            device
        )
    except ValueError as error:
        raise EncoderError(f"this decoder does not fit the image tower: {error}") from error


def apply_trained(parts: EncoderParts, trained: GroundedFile, *, name: str, device: torch.device) -> EncoderParts:
    """Put trained weights into the encoder they started from.

    Args:
        parts: made from `trained.base`; its networks are changed in place.
        trained: the weights.
        name: of the result, for people.
        device: where the networks are.

    Raises:
        EncoderError: the weights are of another architecture; the message says what differs.
    """
    load_weights(parts.image_tower.network, trained.part("image"), "image tower", partly=True)
    text = trained.part("text")
    if text:
        if parts.text_tower.network is None:
            raise EncoderError("there are weights for a text tower that cannot be trained")
        load_weights(parts.text_tower.network, text, "text tower", partly=True)
    written = trained.written
    if written is not None:
        parts = _widen(parts, written, trained.part("written"), device)
    decoder, towers = None, parts.tower_fingerprint
    if trained.decoder is not None:
        decoder = make_decoder(trained.decoder, parts.image_tower, device)
        load_weights(decoder, trained.part("decoder"), "decoder")
        decoder.eval().requires_grad_(requires_grad=False)
    described: dict[str, object] = {
        "base": parts.fingerprint,
        "decoder": trained.decoder.model_dump(mode="json") if trained.decoder else None,
    }
    if written is not None:
        described["written"] = written.model_dump(mode="json")
    of_towers = {key: tensor for key, tensor in trained.tensors.items() if not key.startswith(_PREFIXES["decoder"])}
    if of_towers:
        towers = fingerprint({"base": towers, "written": described.get("written")}, of_towers)
    return replace(
        parts, name=name, fingerprint=fingerprint(described, trained.tensors), decoder=decoder, towers=towers
    )


def _widen(
    parts: EncoderParts, settings: WrittenSettings, tensors: Mapping[str, Tensor], device: torch.device
) -> EncoderParts:
    """Lead both towers to the space with written classifiers."""
    written = Written(settings, token_dim=tensors["mean"].shape[0] if "mean" in tensors else 0)
    load_weights(written, tensors, "set of classifiers")
    written.to(device).eval()
    image_tower = WrittenImageTower(parts.image_tower, written)
    return replace(
        parts,
        image_tower=image_tower,
        text_tower=MappedTextTower(parts.text_tower, written.extend_texts, dim=image_tower.dim),
        temperature=settings.temperature,
        written=written,
    )


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], what: str, *, partly: bool = False) -> None:
    """Copy tensors into a module, converting number formats.

    Args:
        module: takes them.
        tensors: by the names they have in the module.
        what: the module, in words for people.
        partly: whether the module may have weights that are not given.

    Raises:
        EncoderError: names or shapes differ; the message says which.
    """
    own = module.state_dict()
    faults = [f"{name} is unknown" for name in sorted(tensors.keys() - own.keys())]
    if not partly:
        faults += [f"{name} is missing" for name in sorted(own.keys() - tensors.keys())]
    faults += [
        f"{name} has shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and own[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise EncoderError(f"these weights are of another {what}: {'; '.join(faults[:_MOST_NAMED])}{more}")
    module.load_state_dict(dict(tensors), strict=False)
