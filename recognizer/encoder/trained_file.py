"""The file of a trained encoder.

One safetensors file holds the weights that training changed: the decoder, towers that were not frozen, text
classifiers. Its header holds the spec of the encoder that training started from, so that frozen weights are stored
once, where they came from. `recognizer.encoder.parts` puts the weights into that encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from recognizer.encoder.decoder import DecoderSettings
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.starter.text_classifiers import TextClassifiers, TextClassifierSettings
from recognizer.errors import reason_of

FORMAT = "recognizer-encoder-1"
# Files call the text classifiers `written`, in the header and in tensor names.
_PREFIXES = {"decoder": "decoder.", "image": "image.", "text": "text.", "text_classifiers": "written."}
_CLASSIFIER_SECTION = "written"

Part = Literal["decoder", "image", "text", "text_classifiers"]


@dataclass(frozen=True, slots=True)
class TrainedFile:
    """The content of a file.

    Attributes:
        base: spec of the encoder that training started from.
        decoder: settings of its decoder; None where only towers were trained.
        card: how it was trained and what it reached; JSON values.
        tensors: weights by name: `decoder.…`, `image.…`, `text.…`, `written.…` (text classifiers).
        text_classifiers: their settings; None where there are none.
        decoder_header: the decoder's section of the header as a file holds it; None before there is a file. It is
            hashed into the encoder's fingerprint, so that a file keeps its fingerprint when settings are added or
            retired.
    """

    base: Mapping[str, Any]
    decoder: DecoderSettings | None
    card: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    text_classifiers: TextClassifierSettings | None = None
    decoder_header: Mapping[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """Return the file's content; the same for the same values."""
        header = {
            "base": dict(self.base),
            "decoder": self.decoder.model_dump(mode="json") if self.decoder else None,
            _CLASSIFIER_SECTION: self.text_classifiers.model_dump(mode="json") if self.text_classifiers else None,
            "card": dict(self.card),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        # safetensors writes several metadata keys in any order, so all values stand under one.
        return save(tensors, metadata={FORMAT: json.dumps(header, sort_keys=True)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `to_bytes` made; nothing in it is executed.

        Raises:
            EncoderUnavailable: it cannot be read.
            EncoderError: it is another kind of file, or has a decoder that this version cannot compute.
        """
        try:
            with safe_open(path, framework="pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError) as error:
            raise EncoderUnavailable(f"cannot read the encoder {path}: {error}") from error
        if FORMAT not in metadata:
            raise EncoderError(f"{path} is not an encoder of this project: {FORMAT} is not in its header")
        try:
            header = json.loads(metadata[FORMAT])
            section = header["decoder"]
            if not isinstance(header["base"], dict) or not isinstance(header["card"], dict):
                raise ValueError("base and card must be JSON objects")
            classifiers = header.get(_CLASSIFIER_SECTION)  # missing in the first files
            return cls(
                base=header["base"],
                decoder=None if section is None else _read_decoder(section),
                card=header["card"],
                tensors=tensors,
                text_classifiers=classifiers and TextClassifierSettings.model_validate(classifiers),
                decoder_header=section,
            )
        except KeyError as error:
            raise EncoderError(f"the header of {path} cannot be read: {error} is missing") from error
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'it'}: {reason_of(fault)}" for fault in error.errors())
            raise EncoderError(f"the header of {path} cannot be read: {'; '.join(faults)}") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise EncoderError(f"the header of {path} cannot be read: {error}") from error

    def part(self, name: Part) -> dict[str, Tensor]:
        """Return the tensors of one part under the names that they have in its module."""
        prefix = _PREFIXES[name]
        return {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}

    def with_text_classifiers(self, classifiers: TextClassifiers, card: Mapping[str, Any]) -> Self:
        """Return the file with these text classifiers, in float16, in place of any earlier ones, and another card."""
        prefix = _PREFIXES["text_classifiers"]
        others = {key: tensor for key, tensor in self.tensors.items() if not key.startswith(prefix)}
        tensors = {f"{prefix}{name}": value.half() for name, value in classifiers.state_dict().items()}
        return replace(self, card=card, tensors=others | tensors, text_classifiers=classifiers.settings)

    def without_decoder(self) -> dict[str, Tensor]:
        """Return all other tensors, under the names that they have in the file."""
        prefix = _PREFIXES["decoder"]
        return {key: tensor for key, tensor in self.tensors.items() if not key.startswith(prefix)}


def _read_decoder(section: Mapping[str, Any]) -> DecoderSettings:
    """Read the decoder's settings, also those of earlier versions, which had one more: `residual`.

    It named a network that changed the tower's vectors (`hidden` 0: none; null: the decoder replaces the tower's
    vectors). What is left of it are the two decoders of today: anchors with `hidden` 0, and learned queries with null.

    Raises:
        ValueError: the file has another combination.
    """
    if "residual" in section:
        residual = section["residual"]
        supported = residual is None if section.get("anchors") is None else residual and not residual["hidden"]
        if not supported:
            raise ValueError(
                f"its decoder has residual {residual}, which this version cannot compute; train the decoder again"
            )
    return DecoderSettings.model_validate({key: value for key, value in section.items() if key != "residual"})
