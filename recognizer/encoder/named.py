"""Encoders with a short name, for users who do not want to choose among open_clip's: small, base and large."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NamedEncoder:
    """A pair of model and weights of open_clip.

    Attributes:
        name: What `--model` takes.
        model: Architecture.
        tag: Weights.
        pixels: Height and width of the model input.
        parameters: Millions, of both towers; in fp32 a million takes 4 MB, on disk too.
        accuracy: Zero-shot top-1 accuracy on ImageNet, in per cent, as its makers state it.
        stated_in: Where they do.
        licence: Of the weights.
        images_per_second: Through the image tower, as measured here (see below).
    """

    name: str
    model: str
    tag: str
    pixels: int
    parameters: int
    accuracy: float
    stated_in: str
    licence: str
    images_per_second: float

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.name} ({self.model}/{self.tag}, {self.accuracy:.1f} % zero-shot on ImageNet as its makers state, "
            f"{self.parameters} M parameters, {self.images_per_second:g} images/s on two CPU cores, licence "
            f"{self.licence})"
        )


_SPEED_PLACEHOLDER = 0.0
_ALL = (
    NamedEncoder(
        "small", "MobileCLIP2-S2", "dfndr2b", 256, 99, 77.2, "arXiv 2508.20691", "apple-amlr (research only)",
        _SPEED_PLACEHOLDER,
    ),
    NamedEncoder(
        "base", "ViT-B-16-SigLIP2-256", "webli", 256, 375, 79.1, "arXiv 2502.14786", "Apache-2.0", _SPEED_PLACEHOLDER
    ),
    NamedEncoder(
        "large", "PE-Core-L-14-336", "meta", 336, 671, 83.5, "arXiv 2504.13181", "Apache-2.0", _SPEED_PLACEHOLDER
    ),
)
NAMED = {encoder.name: encoder for encoder in _ALL}
