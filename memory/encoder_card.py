"""The encoder as a memory knows it: its identity, and how it encodes texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """The identity of an encoder.

    Attributes:
        name: for people to read.
        fingerprint: hexadecimal sha256 over architecture, weights, tokenizer and preprocessing.
        precision: "fp32" or "bf16".
        dim: length D of its vectors.
        spec: JSON object that is enough to load the encoder again.
    """

    name: str
    fingerprint: str
    precision: str
    dim: int
    spec: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check dimension and fingerprint."""
        if self.dim < 1:
            raise ValueError(f"encoder {self.name!r}: dimension {self.dim} is not positive")
        if not is_fingerprint(self.fingerprint):
            raise ValueError(f"encoder {self.name!r}: fingerprint {self.fingerprint!r} is not 64 hexadecimal digits")

    def to_json(self) -> dict[str, Any]:
        """Return the card as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EncoderCard:
        """Make a card from a JSON object of ``to_json``.

        Raises:
            KeyError, TypeError, ValueError: an object of another shape.
        """
        return cls(
            name=str(value["name"]),
            fingerprint=str(value["fingerprint"]),
            precision=str(value["precision"]),
            dim=int(value["dim"]),
            spec=dict(value["spec"]),
        )


class TextEncoder(Protocol):
    """What the memory needs of an encoder."""

    @property
    def card(self) -> EncoderCard:
        """The identity of the encoder."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, D) float32 unit rows, one for each text; a row must depend on its own text only."""

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many of the texts are longer than the encoder reads."""


def is_fingerprint(text: str) -> bool:
    """Say whether a text has the form of a fingerprint: 64 hexadecimal digits."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
