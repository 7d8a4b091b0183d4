"""What an encoder is made of: one tower per modality, behind two small protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from recognizer.encoder.decoder import DecoderInput, GroundingDecoder
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.windows import WindowSettings
from recognizer.encoder.written import Written


@dataclass(frozen=True, slots=True)
class TowerOutput:
    """One pass of an image tower over B images.

    Attributes:
        image: (B, D) float32 vectors in the joint space, of any length.
        tokens: (B, gh, gw, C) float32 grid over the model input, to be averaged over windows and then given to
            `ImageTower.project`; None where the tower has no tokens that lead to the joint space.
    """

    image: Tensor
    tokens: Tensor | None


class ImageTower(Protocol):
    """Pixels in, one vector per image and a grid of tokens out."""

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become this tower's pixels."""

    @property
    def region_source(self) -> str:
        """Where region vectors come from, in words for people."""

    @property
    def certain_length(self) -> float:
        """Length of a region's vector, before it is made a unit row, from which on the region counts in full.

        0 where the length says nothing about how much there is to see.
        """

    @property
    def network(self) -> nn.Module:
        """What training changes."""

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Run the trunk once over (B, 3, H, W) normalised float32 pixels."""

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """Run the trunk once, for a grounding decoder.

        Args:
            pixels: (B, 3, H, W) normalised float32.
            dense: Give tokens that `project` leads to the joint space, with the image vectors and their `pooled`;
                else the trunk's final tokens, whatever they are.

        Raises:
            ValueError: If the tower has no tokens.
        """

    def project(self, pooled: Tensor) -> Tensor:
        """Lead (N, C) averaged tokens to (N, D) float32 vectors of any length in the joint space."""


class TextTower(Protocol):
    """Token sequences in, one vector per text out."""

    @property
    def network(self) -> nn.Module | None:
        """What training changes; None where it cannot be trained."""

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""

    @property
    def context_length(self) -> int:
        """The most tokens one text may have, special tokens included."""

    @property
    def pad_id(self) -> int:
        """Token that fills a sequence up; it must not change the vector of the text."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to the context, as short as the tower can see them.

        A tower whose vector depends on the padding returns every sequence at full context length.
        """

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context, special tokens included."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) int64 padded token ids to (N, D) float32 vectors of any length in the joint space."""


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """Everything a family of models hands over to make an `Encoder`.

    Attributes:
        name: What people call the encoder.
        fingerprint: Hash over architecture, weights, tokenizer and preprocessing.
        spec: JSON values from which `Encoder.from_spec` makes the same encoder again.
        image_tower: Already on its device, in its precision.
        text_tower: Likewise.
        templates: Texts around a category name that suit the model, with `{}` for the name.
        windows: The regions, where there is no decoder.
        temperature: Divides cosines before a softmax over categories, until one is fitted.
        decoder: Finds the regions, where there is one.
        written: The classifiers by which both towers were widened, if they were.
        towers: Hash as `fingerprint`, without the decoder; empty where there is none.
    """

    name: str
    fingerprint: str
    spec: dict[str, Any]
    image_tower: ImageTower
    text_tower: TextTower
    templates: tuple[str, ...]
    windows: WindowSettings
    temperature: float
    decoder: GroundingDecoder | None = None
    written: Written | None = None
    towers: str = ""

    @property
    def tower_fingerprint(self) -> str:
        """Hash of what makes tokens, pooled features and text vectors: the same under every decoder."""
        return self.towers or self.fingerprint
