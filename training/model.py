"""The model that training changes: an encoder's towers, frozen or not, its grounding decoder and the logit scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from recognizer.console import note
from recognizer.encoder import Encoder
from recognizer.encoder.decoder import DecoderInput, GroundingDecoder
from recognizer.encoder.starter.classifier import ClassifierTower
from recognizer.encoder.starter.starter import CONSE, STARTER
from recognizer.encoder.starter.wider_towers import WrittenImageTower
from recognizer.encoder.towers import EncoderParts
from recognizer.encoder.trained_file import GroundedFile, fingerprint, make_decoder, written_tensors
from training.config import TrainConfig
from training.data.batch import Batch
from training.errors import TrainingError
from training.losses import LOG_SCALE_LIMIT
from training.text_reader import FrozenReader, LearningReader, TextReader


@dataclass(frozen=True, slots=True)
class Regions:
    """Of B images with Q queries each.

    Attributes:
        embeddings: (B, Q, D) float32 unit rows.
        boxes_cxcywh: (B, Q, 4) float32 in [0, 1], shares of the model input.
        weight_logits: (B, Q) float32.
    """

    embeddings: Tensor
    boxes_cxcywh: Tensor
    weight_logits: Tensor


@dataclass(frozen=True, slots=True)
class Outputs:
    """Of B samples with N descriptions.

    Attributes:
        images: (B, D) float32 unit rows.
        captions: (B, D) float32 unit rows.
        descriptions: (N, D) float32 unit rows; N = 0 where nothing is learned from them.
        regions: None without a decoder.
    """

    images: Tensor
    captions: Tensor
    descriptions: Tensor
    regions: Regions | None

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""
        regions = self.regions
        found = [] if regions is None else [regions.embeddings, regions.boxes_cxcywh, regions.weight_logits]
        return [self.images, self.captions, self.descriptions, *found]

    def map(self, change: Callable[[Tensor], Tensor]) -> Outputs:
        """Apply a function to every tensor."""
        return _from_tensors([change(tensor) for tensor in self.tensors()])

    @classmethod
    def concatenate(cls, parts: Sequence[Outputs]) -> Outputs:
        """Join the outputs of consecutive parts of a batch."""
        return _from_tensors([torch.cat(tensors) for tensors in zip(*(part.tensors() for part in parts), strict=True)])


def _from_tensors(tensors: Sequence[Tensor]) -> Outputs:
    images, captions, descriptions, *found = tensors
    return Outputs(images, captions, descriptions, Regions(*found) if found else None)


_HEADS = ("log_scale", "bias")


class GroundedModel(nn.Module):
    """See the module.

    Batch norms keep their statistics, and frozen networks are left as they are in every respect.

    Attributes:
        decoder: None for the baseline, which has image vectors alone.
        log_scale: log of the logit scale.
        bias: of the sigmoid losses; None for InfoNCE.
    """

    def __init__(self, parts: EncoderParts, config: TrainConfig, device: torch.device) -> None:
        """Take an encoder apart.

        Args:
            parts: loaded in fp32 on the device; its networks are changed in place.
            config: what of it is trained. A new decoder comes from torch's random state; the encoder's own goes on
                where its weights fit, without its residual where only that does not.
            device: where everything is.

        Raises:
            TrainingError: the encoder does not allow what the config asks for.
            recognizer.encoder.errors.EncoderError: the decoder does not fit the image tower.
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
        # Assigned as children only where they learn: what is frozen takes no part in `train` and `state_dict`.
        self.image = image if self._learns_image else None
        self.text = text if self._learns_text else None
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.loss.logit_scale), device=device))
        bias = torch.tensor(config.loss.logit_bias, device=device)
        self.bias = nn.Parameter(bias) if config.loss.kind == "sigmoid" else None
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
            identity = f"{parts.tower_fingerprint} {config.tower_precision()}"
            self._reader = FrozenReader(parts.text_tower, device, identity=identity)

    @property
    def trained(self) -> Mapping[str, nn.Parameter]:
        """What learns, by name: `decoder.…`, `image.…`, `text.…`, `log_scale`, `bias`."""
        return self._trained

    @property
    def base_fingerprint(self) -> str:
        """Fingerprint of the encoder that training started from."""
        return self._parts.fingerprint

    @property
    def tower_fingerprint(self) -> str:
        """Fingerprint of the towers that training started from, without their decoder."""
        return self._parts.tower_fingerprint

    def train(self, mode: bool = True) -> GroundedModel:
        """Switch dropout of what learns on or off."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, batch: Batch) -> Outputs:
        """Encode images and texts of a batch; its tensors are on the model's device."""
        descriptions = batch.descriptions if self._describes else []
        read = self._reader.read([*batch.captions, *descriptions])
        captions, described = read[: len(batch)], read[len(batch) :]
        if self.decoder is None:
            return Outputs(self._image_vectors(batch.pixels), captions, described, None)
        grounded = self.decoder(self._decoder_input(batch), self._parts.image_tower.project)
        regions = Regions(grounded.regions, grounded.boxes_cxcywh, grounded.region_weight_logits)
        return Outputs(grounded.image, captions, described, regions)

    def decoder_input(self, pixels: Tensor) -> DecoderInput:
        """Run the image tower, with gradient where it learns.

        Args:
            pixels: (B, 3, H, W) uint8.
        """
        tower = self._parts.image_tower
        dense = self.decoder is not None and self.decoder.settings.residual is not None
        with torch.set_grad_enabled(self._learns_image and torch.is_grad_enabled()):
            return tower.decoder_input(tower.preprocessing.normalize(pixels), dense=dense)

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Hold the logit scale to at most 100; to be called after every step."""
        self.log_scale.clamp_(max=LOG_SCALE_LIMIT)

    def encoder(self) -> Encoder:
        """Return an encoder over the weights as they are; to be used in eval mode."""
        identity = fingerprint({"base": self._parts.fingerprint}, self._weights(torch.float32))
        parts = replace(self._parts, decoder=self.decoder, fingerprint=identity, name=f"{self._parts.name}, trained")
        return Encoder(parts, device=self._device, precision="fp32")

    def to_file(self, card: Mapping[str, Any]) -> GroundedFile:
        """Return what was trained, in float16, as the file of an encoder.

        Training that went on from such a file takes over its base, the towers that it had trained and this run kept
        frozen, and its classifiers, so that the new file needs the old one no more.
        """
        settings = None if self.decoder is None else self.decoder.settings
        base: Mapping[str, Any] = self._parts.spec
        towers: dict[str, Tensor] = {}
        while base["kind"] == "trained":
            earlier = GroundedFile.read(Path(base["file"]))
            base = earlier.base
            towers = {n: t for n, t in earlier.tensors.items() if n.startswith(("image.", "text."))} | towers
        if base["kind"] == STARTER:  # its trained decoder is not what this one stands on
            base = {**base, "settings": {**base["settings"], "pretrained": CONSE}}
        written = self._parts.written
        kept = {} if written is None else written_tensors(written)
        tensors = towers | kept | self._weights(torch.float16)
        return GroundedFile(base, settings, card, tensors, None if written is None else written.settings)

    def _weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {name: value.detach().to(dtype) for name, value in self._trained.items() if name not in _HEADS}

    def _decoder_input(self, batch: Batch) -> DecoderInput:
        given = batch.given
        return self.decoder_input(batch.pixels) if given is None else replace(given, tokens=given.tokens.float())

    def _image_vectors(self, pixels: Tensor) -> Tensor:
        tower = self._parts.image_tower
        with torch.set_grad_enabled(self._learns_image and torch.is_grad_enabled()):
            output = tower.forward(tower.preprocessing.normalize(pixels))
        return functional.normalize(output.image.float(), dim=-1)

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


def _decoder(parts: EncoderParts, config: TrainConfig, device: torch.device) -> GroundingDecoder | None:
    if config.decoder is None:
        return None
    earlier = parts.decoder
    if earlier is not None and earlier.settings.same_weights(config.decoder):
        earlier.use(config.decoder)
        return earlier
    made = make_decoder(config.decoder, parts.image_tower, device)
    if earlier is not None and earlier.settings.same_weights(config.decoder, but_residual=True):
        kept = {name: value for name, value in earlier.state_dict().items() if not name.startswith("residual.")}
        made.load_state_dict(kept, strict=False)
    elif earlier is not None:
        note(f"the decoder of {parts.name} has other sizes than the config asks for; a new one is trained")
    return made


def _check(parts: EncoderParts, config: TrainConfig) -> None:
    expected, given = parts.image_tower.preprocessing.size_hw, config.data.samples.augment.size_hw
    if given != expected:
        raise TrainingError(
            f"the encoder {parts.name} takes images of {expected[0]} x {expected[1]} pixels, but "
            f"data.samples.augment.size_hw is {list(given)}; set it to {list(expected)}"
        )
    text = parts.text_tower.network
    if config.text_tower.lr_share and text is None:
        raise TrainingError(f"the text tower of {parts.name} cannot be trained; set text_tower.lr_share to 0")
    if config.activation_checkpointing:
        own_tower = parts.image_tower.inner if isinstance(parts.image_tower, WrittenImageTower) else parts.image_tower
        towers = {"image": (config.image_tower, parts.image_tower.network), "text": (config.text_tower, text)}
        for name, (tower, network) in towers.items():
            bypassed = name == "image" and isinstance(own_tower, ClassifierTower)  # runs the blocks by itself
            if tower.lr_share and (bypassed or not _checkpointing_modules(network)):
                raise TrainingError(
                    f"the {name} tower of {parts.name} has no activation_checkpointing; set it to false"
                )


def _checkpointing_modules(network: nn.Module | None) -> list[nn.Module]:
    """Find the modules of open_clip and timm that can compute their activations twice."""
    return [] if network is None else [part for part in network.modules() if hasattr(part, "grad_checkpointing")]
