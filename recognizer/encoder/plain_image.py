"""An image tower that gives one vector per image and nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from recognizer.encoder.decoder import DecoderInput
from recognizer.encoder.open_clip_image import autocast
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import TowerOutput
from recognizer.encoder.untyped import Network


class PlainTower:
    """Any open_clip model, through its `encode_image` alone."""

    region_source = "windows cut out of the image and encoded one by one"
    certain_length = 0.0

    def __init__(self, model: Network, preprocessing: Preprocessing, *, dim: int, bf16: bool) -> None:
        """Take an open_clip model on its device, in its final precision; `bf16` runs it under autocast."""
        self._model = model
        self.network: nn.Module = model.visual
        self._parameter = next(self._model.visual.parameters())
        self._bf16 = bf16
        self.preprocessing = preprocessing
        self.dim = dim

    def forward(self, pixels: Tensor) -> TowerOutput:
        """One vector per image, no tokens."""
        with autocast(pixels.device, enabled=self._bf16):
            image = self._model.encode_image(pixels.to(self._parameter.dtype))
        return TowerOutput(image.float(), None)

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """There are no tokens to decode.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{type(self.network).__name__} gives no tokens that a grounding decoder could look at")

    def project(self, pooled: Tensor) -> Tensor:
        """There are no tokens to project; what comes in goes out."""
        return pooled
