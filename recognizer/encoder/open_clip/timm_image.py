"""The image towers of open_clip models that wrap timm: SigLIP, MobileCLIP, ConvNeXt, EVA, ViTamin and others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recognizer.encoder.decoder import DecoderInput
from recognizer.encoder.device import autocast
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import Network, TowerOutput


class TimmTower:
    """open_clip's `TimmModel`: the trunk runs once, its pooling head runs again on every window.

    The head sees a window as a feature map (or sequence) of one position that holds the window's mean. With
    average pooling that is the head over the window. With attention pooling (SigLIP) the softmax over one
    position is 1, so the head takes its value projection: MaskCLIP's reading, with uniform attention over the
    window.
    """

    region_source = "windows over the feature grid, through the pooling head"
    certain_length = 0.0

    def __init__(self, visual: Network, preprocessing: Preprocessing, *, dim: int, bf16: bool) -> None:
        """Take an open_clip TimmModel.

        Args:
            visual: On its device, in its final precision; a convolutional trunk keeps fp32 weights.
            preprocessing: The model's own.
            dim: Dimensions of the joint space.
            bf16: Run under bf16 autocast, for convolutional trunks.

        Raises:
            ValueError: If the trunk's features are no grid that the head takes a window of.
        """
        self._visual = visual
        self.network: nn.Module = visual
        self._parameter = next(visual.parameters())
        self._bf16 = bf16
        self._prefix = int(getattr(self._visual.trunk, "num_prefix_tokens", 0))
        self._channels_last_grid = getattr(self._visual.trunk, "output_fmt", "NCHW") == "NHWC"
        self._is_sequence = False
        self.preprocessing = preprocessing
        self.dim = dim
        self._probe()

    def forward(self, pixels: Tensor) -> TowerOutput:
        """One vector per image and a (B, gh, gw, C) grid of tokens before the pooling head."""
        with autocast(pixels.device, enabled=self._bf16):
            features = self._visual.trunk.forward_features(pixels.to(self._parameter.dtype))
            image = self._visual.head(self._visual.trunk.forward_head(features))
        return TowerOutput(image.float(), self._grid(features).float())

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """The tokens before the pooling head, in either case; their mean stands for the whole image."""
        output = self.forward(pixels)
        assert output.tokens is not None
        tokens, (height, width) = output.tokens.flatten(1, 2), output.tokens.shape[1:3]
        return DecoderInput(tokens, (height, width), output.image, tokens.mean(dim=1))

    def project(self, pooled: Tensor) -> Tensor:
        """(N, C) window means through the pooling head, to (N, D)."""
        if self._is_sequence:
            features = pooled[:, None].expand(-1, self._prefix + 1, -1)
        else:
            features = pooled[:, None, None] if self._channels_last_grid else pooled[:, :, None, None]
        with autocast(pooled.device, enabled=self._bf16):
            head = self._visual.trunk.forward_head(features.to(self._parameter.dtype))
            projected: Tensor = self._visual.head(head)
        return projected.float()

    def _grid(self, features: Tensor) -> Tensor:
        if features.ndim == 4:
            return features if self._channels_last_grid else features.permute(0, 2, 3, 1)
        height, width = self._visual.trunk.patch_embed.grid_size
        return features[:, self._prefix :].reshape(len(features), height, width, -1)

    def _probe(self) -> None:
        """Learn the layout of the features from one blank image, and that a window passes the head."""
        blank = torch.zeros(1, 3, *self.preprocessing.size_hw, device=self._parameter.device)
        try:
            with torch.inference_mode(), autocast(blank.device, enabled=self._bf16):
                features = self._visual.trunk.forward_features(blank.to(self._parameter.dtype))
                self._is_sequence = features.ndim == 3
                vector = self.project(self._grid(features).float().mean(dim=(1, 2)))
        except (RuntimeError, AttributeError, TypeError, IndexError, AssertionError) as error:
            raise ValueError(f"the head of {type(self._visual.trunk).__name__} takes no windows: {error}") from error
        if vector.shape != (1, self.dim):
            raise ValueError(f"a window of {type(self._visual.trunk).__name__} has shape {tuple(vector.shape)}")
