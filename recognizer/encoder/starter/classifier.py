"""The image tower of the starter encoder: a convolutional classifier, whose classes describe an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.device import autocast
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.starter.class_space import ClassSpace
from recognizer.encoder.starter.efficientnet import STRIDE, EfficientNetLite0, fold_batch_norms
from recognizer.encoder.towers import TowerOutput


class ClassifierTower:
    """An EfficientNet whose classifier runs on the mean of the feature map, over the image or a window.

    In bf16 the stem and the first block stay in fp32: rounding there is amplified by every later block, and
    keeping them halves the distance to fp32 for a fifth of the speed.

    A window of bare background makes every class about as probable, and its vector nearly zero. Normalised, that
    remainder would match some name as well as an object does; `full_weight_length` gives it a low weight instead.
    """

    region_source = "windows over the feature map, through the classifier and its classes"
    obeys_checkpointing = False  # the blocks are called one by one, not through the network's forward

    def __init__(
        self,
        model: EfficientNetLite0,
        preprocessing: Preprocessing,
        space: ClassSpace,
        *,
        whole_size: int,
        full_weight_length: float,
        bf16: bool,
    ) -> None:
        """Take a classifier.

        Args:
            model: In eval mode, fp32, on its device. Its batch norms are folded into its convolutions in place.
            preprocessing: The model's own.
            space: Projects logits into the joint space.
            whole_size: Side in pixels at which the whole image is classified; the regions see the full input.
            full_weight_length: Length of a region's vector from which on the region has full weight.
            bf16: Run all but the first convolutions under bf16 autocast.
        """
        fold_batch_norms(model)
        self._model = model.to(memory_format=torch.channels_last)
        self._space = space
        self._bf16 = bf16
        self.preprocessing = preprocessing
        self.dim = space.dim
        self._whole_size = whole_size
        self.full_weight_length = full_weight_length
        height, width = preprocessing.size_hw
        self.token_shape = ((height // STRIDE, width // STRIDE), model.channels)

    @property
    def network(self) -> nn.Module:
        """The classifier, its batch norms folded."""
        return self._model

    def forward(self, pixels: Tensor) -> TowerOutput:
        """The feature map as tokens, and the image vector of the image at `whole_size`."""
        features = self._features(pixels)
        whole = features
        if pixels.shape[-1] != self._whole_size:
            size = (self._whole_size, self._whole_size)
            # Of planes it takes two thirds of the time that it takes of channels-last pixels, and gives the same bytes.
            planes = pixels.contiguous()
            whole = self._features(F.interpolate(planes, size=size, mode="bicubic", antialias=True))
        pooled, (height, width) = whole.mean(dim=(2, 3)), features.shape[2:]
        return TowerOutput(features.flatten(2).transpose(1, 2), (height, width), self.project(pooled), pooled)

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """The same: the feature map is the trunk's last."""
        return self.forward(pixels)

    def _features(self, pixels: Tensor) -> Tensor:
        model = self._model
        started = model.start(pixels.contiguous(memory_format=torch.channels_last))
        with autocast(pixels.device, enabled=self._bf16):
            features = model.finish(started)
        return features.float()

    def project(self, pooled: Tensor) -> Tensor:
        """(N, C) mean features to (N, D): classifier and class space, in fp32 whatever surrounds it."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self._space.embed_logits(self._model.classifier(pooled.float()))
