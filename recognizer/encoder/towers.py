"""The two halves of an encoder, a tower for images and one for texts, as protocols, and what an image tower returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from recognizer.encoder.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class TowerOutput:
    """One pass of an image tower over B images: N tokens of C channels each, D dimensions of the joint space.

    Attributes:
        tokens: (B, N, C); the last gh * gw of them are the grid, row by row, a class token comes before it. N is 0 for
            a tower without tokens.
        grid_hw: gh and gw, the token grid over the model input; (0, 0) without tokens.
        image: (B, D) float32 image vectors of any length; None where the pass was asked for the final tokens only.
        pooled: (B, C) the tokens averaged over the whole image; None where they cannot be projected.
    """

    tokens: Tensor
    grid_hw: tuple[int, int]
    image: Tensor | None = None
    pooled: Tensor | None = None

    def grid(self) -> Tensor:
        """Return the (B, gh, gw, C) token grid."""
        height, width = self.grid_hw
        batch, count, channels = self.tokens.shape
        return self.tokens[:, count - height * width :].reshape(batch, height, width, channels)

    def take(self, images: slice) -> TowerOutput:
        """Return the output of some of the images."""
        image, pooled = (None if part is None else part[images] for part in (self.image, self.pooled))
        return TowerOutput(self.tokens[images], self.grid_hw, image, pooled)

    def image_vectors(self) -> Tensor:
        """Return the (B, D) image vectors.

        Raises:
            ValueError: The pass gave none.
        """
        if self.image is None:
            raise ValueError("this pass gave the final tokens only; use ImageTower.forward for image vectors")
        return self.image


class ImageTower(Protocol):
    """Pixels in; image vectors and a grid of tokens out."""

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
    def full_weight_length(self) -> float:
        """Length of a region's vector, before it is made a unit row, from which on the region has its full weight.

        0 where the length says nothing about how much there is to see.
        """

    @property
    def token_shape(self) -> tuple[tuple[int, int], int] | None:
        """The token grid (gh, gw), with no other tokens beside it, and C; None where only a pass shows them."""

    @property
    def network(self) -> nn.Module:
        """The weights that training changes."""

    @property
    def obeys_checkpointing(self) -> bool:
        """Whether a pass obeys the `grad_checkpointing` switches of the network's modules."""

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Run the trunk once, for image vectors and for tokens that `project` maps into the joint space.

        Args:
            pixels: (B, 3, H, W) normalised float32.
        """

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """Run the trunk once, for its last tokens as they are: a decoder that learns its own projection reads them.

        Towers whose `forward` returns these very tokens return the same here.
        """

    def project(self, pooled: Tensor) -> Tensor:
        """Project (N, C) averaged tokens to (N, D) float32 vectors of any length in the joint space."""


Tokenize: TypeAlias = Callable[[Sequence[str]], list[list[int]]]
"""Token ids of each text."""


class TextTower(Protocol):
    """Token sequences in, one vector per text out."""

    @property
    def network(self) -> nn.Module | None:
        """The weights that training changes; None where the tower cannot be trained."""

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""

    @property
    def context_length(self) -> int:
        """The largest number of tokens of one text, special tokens included."""

    @property
    def pad_id(self) -> int:
        """Token that fills a sequence up; it must not change the vector of the text."""

    @property
    def tokenize(self) -> Tokenize:
        """Returns token ids of each text, special tokens included, cut to the context, unpadded where that is exact.

        A tower whose vector depends on the padding returns every sequence at full context length. Where the tower can
        be trained, the function holds no weights: it can be sent to the processes that load data.
        """

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context, special tokens included."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) int64 padded token ids to (N, D) float32 vectors of any length in the joint space."""


Network: TypeAlias = Any
"""An `nn.Module` of open_clip or timm, used through the attributes that its library defines."""

Tokenizer: TypeAlias = Any
"""A tokenizer of open_clip or of `tokenizers`."""
