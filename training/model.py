"""The model in training: an encoder's towers, frozen or not, its grounding decoder and the logit scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recognizer.console import note
from recognizer.encoder import Encoder
from recognizer.encoder.decoder import DecoderOutput, GroundingDecoder
from recognizer.encoder.parts import EncoderParts, LogitScale, fingerprint, make_decoder
from recognizer.encoder.towers import Tokenize, TowerOutput
from recognizer.encoder.trained_file import TrainedFile
from training.config import LossConfig, TrainConfig
from training.contrastive import LOG_SCALE_LIMIT
from training.data.batch import Batch
from training.errors import TrainingError
from training.text_reader import FrozenReader, LearningReader, TextReader


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The model's vectors of B samples with N descriptions.

    Attributes:
        decoded: image and region vectors, boxes and weights; without a decoder there are no regions.
        captions: (B, D) float32 unit rows.
        descriptions: (N, D) float32 unit rows; N = 0 where the loss does not use them.
    """

    decoded: DecoderOutput
    captions: Tensor
    descriptions: Tensor

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""
        decoded = self.decoded
        images = [decoded.image, decoded.regions, decoded.boxes_cxcywh, decoded.weight_logits]
        return [*images, self.captions, self.descriptions]

    @classmethod
    def from_tensors(cls, tensors: Sequence[Tensor]) -> ModelOutput:
        """Return the output from the result of `tensors`."""
        *images, captions, descriptions = tensors
        return cls(DecoderOutput(*images), captions, descriptions)

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelOutput:
        """Apply a function to every tensor."""
        return self.from_tensors([change(tensor) for tensor in self.tensors()])

    @classmethod
    def concatenate(cls, parts: Sequence[ModelOutput]) -> ModelOutput:
        """Join the outputs of consecutive parts of a batch."""
        return cls.from_tensors([torch.cat(rows) for rows in zip(*(part.tensors() for part in parts), strict=True)])


_HEADS = ("log_scale", "bias")  # trained for the loss; not part of the encoder


class GroundedModel(nn.Module):
    """An encoder in training. Batch norms keep their statistics; frozen networks do not change at all.

    Attributes:
        decoder: None for the baseline, which has image vectors alone.
        log_scale: log of the logit scale.
        bias: of the sigmoid losses; None for InfoNCE.
    """

    def __init__(self, parts: EncoderParts, config: TrainConfig, device: torch.device) -> None:
        """Prepare an encoder for training.

        Args:
            parts: loaded in fp32 on the device; its networks are changed in place.
            config: says which parts are trained. The encoder's decoder is trained further where its weights fit the
                config; otherwise a new one is made from torch's random state.
            device: where everything is.

        Raises:
            TrainingError: the encoder does not allow what the config asks for.
            recognizer.encoder.errors.EncoderError: the image tower has no tokens for a decoder.
        """
        super().__init__()
        self._parts, self._device = parts, device
        self._learns_image, self._learns_text = config.image_tower.lr_share > 0, config.text_tower.lr_share > 0
        self._describes = "region_description" in config.loss_weights()
        _check(parts, config)
        image, text = parts.image_tower.network, parts.text_tower.network
        for network in filter(None, (text, image)):
            network.eval().requires_grad_(False)
        self.decoder = _decoder(parts, config, device)
        # Only trained networks become child modules: `train` and `state_dict` leave the frozen ones alone.
        self.image = image if self._learns_image else None
        self.text = text if self._learns_text else None
        start = _logit_scale(parts, config.loss)
        self.log_scale = nn.Parameter(torch.tensor(math.log(start.scale), device=device))
        self.bias = None if start.bias is None else nn.Parameter(torch.tensor(start.bias, device=device))
        self._trained = self._collect()
        for parameter in self._trained.values():
            parameter.requires_grad_(True)
        if config.activation_checkpointing:
            for switch in _checkpointing_modules(self.image) + _checkpointing_modules(self.text):
                switch.grad_checkpointing = True  # type: ignore[assignment]
        self._reader: TextReader
        if self._learns_text:
            self._reader = LearningReader(parts.text_tower, device)
        else:
            self._reader = FrozenReader(parts.text_tower, device)

    @property
    def trained(self) -> Mapping[str, nn.Parameter]:
        """The trained weights by name: `decoder.…`, `image.…`, `text.…`, `log_scale`, `bias`."""
        return self._trained

    @property
    def tokenize(self) -> Tokenize | None:
        """Tokenises the texts of a batch ahead; None where the text tower is frozen, whose vectors are cached."""
        return self._parts.text_tower.tokenize if self._learns_text else None

    @property
    def base_fingerprint(self) -> str:
        """Fingerprint of the encoder that training started from."""
        return self._parts.fingerprint

    @property
    def tower_fingerprint(self) -> str:
        """Fingerprint of the towers that training started from, without their decoder."""
        return self._parts.tower_fingerprint

    def train(self, mode: bool = True) -> GroundedModel:
        """Switch the dropout of trained parts on or off."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, batch: Batch) -> ModelOutput:
        """Encode images and texts of a batch; its tensors are on the model's device."""
        descriptions = batch.descriptions if self._describes else []
        texts = self._reader.read([*batch.captions, *descriptions], batch.tokens)
        seen = batch.cached
        seen = self.read_images(batch.pixels) if seen is None else replace(seen, tokens=seen.tokens.float())
        decoded = DecoderOutput.of_images(seen.image_vectors()) if self.decoder is None else self.decoder(seen)
        return ModelOutput(decoded, texts[: len(batch)], texts[len(batch) :])

    def read_images(self, pixels: Tensor) -> TowerOutput:
        """Run the image tower for the tokens that the decoder reads, with gradient where the tower is trained.

        Args:
            pixels: (B, 3, H, W) uint8.
        """
        tower = self._parts.image_tower
        normalized = tower.preprocessing.normalize(pixels)
        with torch.set_grad_enabled(self._learns_image and torch.is_grad_enabled()):
            return tower.forward(normalized) if self.decoder is None else self.decoder.read(tower, normalized)

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Limit the logit scale of InfoNCE to 100; call it after every step."""
        if self.bias is None:
            self.log_scale.clamp_(max=LOG_SCALE_LIMIT)

    def encoder(self) -> Encoder:
        """Return an encoder that shares the current weights; use it in eval mode."""
        identity = fingerprint({"base": self._parts.fingerprint}, self._weights(torch.float32))
        parts = replace(self._parts, decoder=self.decoder, fingerprint=identity, name=f"{self._parts.name}, trained")
        return Encoder(parts, device=self._device, precision="fp32")

    def to_file(self, card: Mapping[str, Any]) -> TrainedFile:
        """Return the trained weights, in float16, as the file of an encoder.

        Where training started from such a file, the new one takes over its base, its text classifiers, and the towers
        that it had trained and this run did not. So it does not need the old file.
        """
        earlier = self._parts.trained
        weights = self._weights(torch.float16)
        return TrainedFile(
            base=self._parts.spec if earlier is None else earlier.base,
            decoder=None if self.decoder is None else self.decoder.settings,
            card=card,
            tensors=weights if earlier is None else earlier.without_decoder() | weights,
            text_classifiers=None if earlier is None else earlier.text_classifiers,
        )

    def _weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {name: value.detach().to(dtype) for name, value in self._trained.items() if name not in _HEADS}

    def _collect(self) -> dict[str, nn.Parameter]:
        modules = {"decoder": self.decoder, "image": self.image, "text": self.text}
        found = {
            f"{part}.{name}": value
            for part, module in modules.items()
            if module is not None
            for name, value in module.named_parameters()
        }
        heads = {name: getattr(self, name) for name in _HEADS}
        return found | {name: value for name, value in heads.items() if value is not None}


def _logit_scale(parts: EncoderParts, config: LossConfig) -> LogitScale:
    """Return what the logit scale and the bias start from; without a bias the loss is InfoNCE."""
    if config.kind != "checkpoint":
        return LogitScale(config.logit_scale, config.logit_bias if config.kind == "sigmoid" else None)
    if parts.logit_scale is None:
        raise TrainingError(
            f"{parts.name} was not trained with a contrastive loss; set loss.kind to infonce or sigmoid"
        )
    return parts.logit_scale


def _decoder(parts: EncoderParts, config: TrainConfig, device: torch.device) -> GroundingDecoder | None:
    """Return the encoder's decoder where its weights fit the config, otherwise a new one."""
    if config.decoder is None:
        return None
    earlier = parts.decoder
    if earlier is not None and earlier.settings.same_weights(config.decoder):
        earlier.settings = config.decoder
        return earlier
    if earlier is not None:
        note(f"the decoder of {parts.name} has other sizes than the config asks for; a new one is trained")
    return make_decoder(config.decoder, parts.image_tower, device)


def _check(parts: EncoderParts, config: TrainConfig) -> None:
    text = parts.text_tower.network
    if config.text_tower.lr_share and text is None:
        raise TrainingError(f"the text tower of {parts.name} cannot be trained; set text_tower.lr_share to 0")
    if config.activation_checkpointing:
        image = parts.image_tower.network if parts.image_tower.obeys_checkpointing else None
        for name, tower, network in (("image", config.image_tower, image), ("text", config.text_tower, text)):
            if tower.lr_share and not _checkpointing_modules(network):
                raise TrainingError(
                    f"the {name} tower of {parts.name} has no activation_checkpointing; set it to false"
                )


def _checkpointing_modules(network: nn.Module | None) -> list[nn.Module]:
    """Find the modules of open_clip and timm that can compute activations twice instead of keeping them."""
    return [] if network is None else [part for part in network.modules() if hasattr(part, "grad_checkpointing")]
