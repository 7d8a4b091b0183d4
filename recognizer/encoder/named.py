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
        repository: On the Hugging Face hub, of the weights and their tokenizer.
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
    repository: str
    pixels: int
    parameters: int
    accuracy: float
    stated_in: str
    licence: str
    images_per_second: float

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.name} ({self.model}/{self.tag}, {self.accuracy:.1f} % zero-shot on ImageNet by its makers' paper, "
            f"{self.stated_in}; {self.parameters} M parameters, about {self.images_per_second:g} images/s on two CPU "
            f"cores, licence {self.licence})"
        )


# Images/s: twice the images per second of CPU time of one thread, windows included, with random weights in bf16, the
# best of four rounds taken in turn with ViT-B-32 (37 by the same measure), on two busy cores of an AMD EPYC (AVX-512,
# no AMX); idle cores are faster.
_ALL = (
    NamedEncoder(
        name="small",
        model="MobileCLIP2-S2",
        tag="dfndr2b",
        repository="timm/MobileCLIP2-S2-OpenCLIP",
        pixels=256,
        parameters=99,
        accuracy=77.2,
        stated_in="arXiv 2508.20691",
        licence="apple-amlr (research only)",
        images_per_second=9.7,
    ),
    NamedEncoder(
        name="base",
        model="ViT-B-16-SigLIP2-256",
        tag="webli",
        repository="timm/ViT-B-16-SigLIP2-256",
        pixels=256,
        parameters=375,
        accuracy=79.1,
        stated_in="arXiv 2502.14786",
        licence="Apache-2.0",
        images_per_second=6.6,
    ),
    NamedEncoder(
        name="large",
        model="PE-Core-L-14-336",
        tag="meta",
        repository="timm/PE-Core-L-14-336",
        pixels=336,
        parameters=671,
        accuracy=83.5,
        stated_in="arXiv 2504.13181",
        licence="Apache-2.0",
        images_per_second=0.8,
    ),
)
NAMED = {encoder.name: encoder for encoder in _ALL}
