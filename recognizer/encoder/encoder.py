"""The encoder: images and texts into one space, with regions and their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from memory.encoder_card import EncoderCard
from recognizer.encoder.device import Precision, choose_device, choose_precision, onnx_hardware
from recognizer.encoder.errors import EncoderError
from recognizer.encoder.features import Frame, ImageFeatures, area_share
from recognizer.encoder.named import NAMED
from recognizer.encoder.onnx.sessions import OnnxParts, open_onnx
from recognizer.encoder.parts import EncoderParts, apply_trained
from recognizer.encoder.passes import Passes
from recognizer.encoder.preprocessing import stacked
from recognizer.encoder.regions import RegionFinder, Regions
from recognizer.encoder.starter.starter import STARTER, load_starter, read_starter_settings, starter_spec
from recognizer.encoder.text_batches import encode_in_buckets
from recognizer.encoder.trained_file import TrainedFile
from recognizer.encoder.windows import WindowSettings
from recognizer.images import Fit, FittedImage, ImageError, ImageSource, check_sources, load_source

TRAINED_SUFFIX = ".safetensors"


class Encoder:
    """Two towers behind one interface. Make one with `Encoder.load`.

    Vectors come out as float32 unit rows whatever the precision inside. Threads that encode images take turns;
    texts are for one thread at a time; `preprocess` may run in many threads at once.

    Attributes:
        card: Name, fingerprint, precision, dimensions and spec, as a memory stores them.
        device: Where the towers compute.
        precision: `fp32` or `bf16`.
        default_templates: Texts around a category name that suit the model, with `{}` for the name.
        default_temperature: Divides scores before the softmax over categories, until one is fitted.
        region_source: Where region vectors come from, in words for people.
        parts: What it is made of.
    """

    def __init__(self, parts: EncoderParts | OnnxParts, *, device: torch.device, precision: Precision) -> None:
        """Put the parts together, which were made for `device` and `precision`."""
        pass_size: int | None = None
        if isinstance(parts, OnnxParts):
            self._find_regions, pass_size = parts.regions.find, parts.regions.pass_size
        else:
            finder = RegionFinder(parts.image_tower, parts.decoder, parts.windows, bf16=precision == "bf16")
            self._find_regions = finder.find
        self.parts = parts
        self._text_tower = parts.text_tower
        self.device = device
        self.precision = precision
        self._passes = Passes(device, pass_size)
        self.default_templates = parts.templates
        self.default_temperature = parts.temperature
        self.region_source = parts.region_source
        self.card = EncoderCard(
            name=parts.name,
            fingerprint=parts.fingerprint,
            precision=precision,
            dim=parts.dim,
            spec=parts.spec,
        )

    @classmethod
    def load(
        cls,
        model: str = STARTER,
        pretrained: str | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        windows: WindowSettings | None = None,
        onnx: Path | None = None,
    ) -> Encoder:
        """Load an encoder.

        Args:
            model: `starter`, `small`, `base` or `large` (`named.py`), a model name of open_clip, `hf-hub:OWNER/NAME`,
                `local-dir:FOLDER`, or a `.safetensors` file that training wrote.
            pretrained: For an open_clip name: a tag, a checkpoint file (of open_clip or of Transformers), `TAG=FILE`
                for a file whose images are prepared as the tag's, or `random`. For the starter: `grounded`, the
                default, or `conse`, the encoder before any training.
            device: `auto` (CUDA where there is a device, else the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.
            precision: `auto` (bf16 where the hardware has it), `fp32` or `bf16`.
            windows: The regions of an open_clip model; the starter and trained files have their own.
            onnx: Folder that `recognizer export-onnx` wrote from this encoder: onnxruntime computes, on the CPU in
                fp32; None: torch does.

        Raises:
            EncoderError: If the arguments do not fit together.
            EncoderUnavailable: If a file is missing and cannot be fetched.
        """
        spec = make_spec(model, pretrained, windows=windows)
        return cls.from_spec(spec, device=device, precision=precision, onnx=onnx)

    @classmethod
    def from_spec(
        cls,
        spec: Mapping[str, Any],
        *,
        device: str = "auto",
        precision: str = "auto",
        onnx: Path | None = None,
    ) -> Encoder:
        """Load the encoder that `spec`, the spec of an `EncoderCard`, describes; the others are as for `load`.

        Raises:
            EncoderError: If the spec is of a kind that this version does not know, or `onnx` was exported from
                another encoder or is damaged.
            EncoderUnavailable: If a file is missing and cannot be fetched.
        """
        if onnx is not None:
            device, precision = onnx_hardware(device, precision)
        chosen_device = choose_device(device)
        chosen_precision = choose_precision(precision, chosen_device)
        load = partial(load_parts, spec, device=chosen_device, precision=chosen_precision)
        parts = load() if onnx is None else open_onnx(spec, onnx, load)
        return cls(parts, device=chosen_device, precision=chosen_precision)

    @property
    def dim(self) -> int:
        """D, dimensions of the joint space."""
        return self.card.dim

    @property
    def has_decoder(self) -> bool:
        """Whether a grounding decoder finds the regions; else they are fixed windows."""
        return self.parts.has_decoder

    @property
    def input_size_hw(self) -> tuple[int, int]:
        """Height and width of the model input, in pixels."""
        return self.parts.preprocessing.size_hw

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, every distinct one once.

        Returns:
            (N, D) float32 unit rows. A row depends on its own text alone, to the last bit.
        """
        return encode_in_buckets(self._text_tower, texts, device=self.device)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Count the texts that are longer than the text tower's context, and lose their end."""
        limit = self._text_tower.context_length
        return sum(count > limit for count in self._text_tower.count_tokens(texts))

    def preprocess(self, image: Image.Image, displayed_size_hw: tuple[int, int] | None = None) -> tuple[Tensor, Frame]:
        """Make one image's pixels and frame, on the CPU; safe in many threads at once.

        Args:
            image: The picture, upright.
            displayed_size_hw: Its height and width as displayed, where `image` was decoded at a reduced scale.

        Returns:
            (3, H, W) uint8 pixels for `encode_pixels`, and the frame that maps boxes back to displayed pixels.
        """
        return self.parts.preprocessing.pixels(image, displayed_size_hw)

    @property
    def fit(self) -> Fit:
        """How images are resized into the model input."""
        return self.parts.preprocessing.fit

    def preprocess_fitted(self, image: FittedImage) -> tuple[Tensor, Frame]:
        """Do the rest of `preprocess` for an image that was resized by `fit` elsewhere."""
        return self.parts.preprocessing.from_fitted(image)

    def encode_images(self, images: Sequence[ImageSource], *, batch_size: int = 32) -> ImageFeatures:
        """Preprocess and encode at least one image, `batch_size` at a time.

        Args:
            images: Paths, bytes of files or PIL images, mixed as you like. Each is turned as its EXIF says, and the
                boxes are in pixels of the displayed image.
            batch_size: Images that are prepared at a time and, except on the CPU, share a pass of the image tower.

        Raises:
            ValueError: If there are no images.
            ImageTypeError: If one of them is of another type.
            ImageError: If one of them cannot be decoded; the reason names its position.
        """
        sources = check_sources(images)
        if not sources:
            raise ValueError("encode_images was given no images")
        parts = []
        for start in range(0, len(sources), batch_size):
            numbered = enumerate(sources[start : start + batch_size], start)
            prepared = [self._load_and_preprocess(position, source) for position, source in numbered]
            pixels = stacked([pixels for pixels, _ in prepared])
            parts.append(self.encode_pixels(pixels, [frame for _, frame in prepared]))
        return ImageFeatures.concatenate(parts)

    def _load_and_preprocess(self, position: int, source: ImageSource) -> tuple[Tensor, Frame]:
        try:
            loaded = load_source(source, target_size_hw=self.input_size_hw)
        except ImageError as error:
            raise ImageError(error.code, f"images[{position}]: {error.reason}") from None
        return self.preprocess(loaded.image, loaded.displayed_size_hw)

    def encode_pixels(self, pixels: Tensor, frames: Sequence[Frame]) -> ImageFeatures:
        """Encode one batch.

        On the CPU an image's features are the same bytes whatever its neighbours, its place in the batch, the size of
        the batch and the number of cores: all forward passes have one shape, see `recognizer.encoder.passes`. On other
        devices a batch is one pass, and features differ in their last digits with the neighbours.

        Args:
            pixels: (B, 3, H, W) uint8, stacked from `preprocess`.
            frames: The B frames that came with them.

        Raises:
            ValueError: If the batch is empty, the pixels are not uint8 of the model's size, or there are not B frames.
        """
        expected = (len(frames), 3, *self.input_size_hw)
        if not frames or tuple(pixels.shape) != expected or pixels.dtype != torch.uint8:
            raise ValueError(f"pixels are {tuple(pixels.shape)} {pixels.dtype}, expected {expected} torch.uint8")
        return self._passes.encode(self._forward, pixels, frames)

    def _forward(self, pixels: Tensor, frames: Sequence[Frame]) -> list[ImageFeatures]:
        """Encode images in one pass."""
        features: list[ImageFeatures] = []
        start = 0
        for regions in self._find_regions(pixels.to(self.device)):
            end = start + len(regions.image)
            features.append(_features(regions, frames[start:end]))
            start = end
        return features


def _features(found: Regions, frames: Sequence[Frame]) -> ImageFeatures:
    """Bring a batch to the CPU, its boxes from the model input to displayed pixels.

    A region's weight is lowered by the share of its box that shows padding.
    """
    pairs = list(zip(frames, found.boxes_xyxy.cpu().numpy(), strict=True))
    visible = np.stack([frame.visible_share(boxes) for frame, boxes in pairs])
    displayed = np.stack([frame.to_displayed(boxes) for frame, boxes in pairs])
    sizes_hw = [frame.displayed_size_hw for frame in frames]
    return ImageFeatures(
        image=found.image.cpu().numpy(),
        regions=found.regions.cpu().numpy(),
        boxes_xyxy=displayed,
        region_weight=visible * found.weight.cpu().numpy(),
        region_area=np.stack([area_share(boxes, size) for boxes, size in zip(displayed, sizes_hw, strict=True)]),
    )


def make_spec(model: str, pretrained: str | None = None, *, windows: WindowSettings | None = None) -> dict[str, Any]:
    """Return the spec of the encoder that `Encoder.load` makes of the same arguments.

    Raises:
        EncoderError: If they do not fit together.
        EncoderUnavailable: If the file of `TAG=FILE` does not exist.
    """
    if model == STARTER:
        if windows is not None:
            raise EncoderError("the starter encoder has its own regions; leave windows out")
        return starter_spec(pretrained)
    if model.endswith(TRAINED_SUFFIX):
        if pretrained is not None or windows is not None:
            raise EncoderError(f"{model} brings its own weights and regions; leave pretrained and windows out")
        return {"kind": "trained", "file": str(Path(model).resolve())}
    if model in NAMED:
        if pretrained is not None:
            raise EncoderError(f"{model} brings its own weights; leave pretrained out (it is {pretrained!r})")
        model, pretrained = NAMED[model].model, NAMED[model].tag
    from recognizer.encoder.open_clip.file_settings import read_pretrained

    weights, settings = read_pretrained(model, pretrained)
    chosen = (windows or WindowSettings()).to_json()
    spec = {"kind": "open_clip", "model": model, "pretrained": weights, "windows": chosen}
    return spec if settings is None else spec | {"settings": settings.to_json()}


def load_parts(spec: Mapping[str, Any], *, device: torch.device, precision: Precision) -> EncoderParts:
    """Load the parts of the encoder that `spec` describes.

    Raises:
        EncoderError: If the spec is of a kind that this version does not know.
        EncoderUnavailable: If a file is missing and cannot be fetched.
    """
    match spec:
        case {"kind": "starter", "settings": settings}:
            return load_starter(read_starter_settings(settings), device=device, precision=precision)
        case {"kind": "open_clip", "model": model, "pretrained": pretrained, "windows": windows}:
            from recognizer.encoder.open_clip.file_settings import FileSettings
            from recognizer.encoder.open_clip.model import load_open_clip

            chosen = WindowSettings.from_json(windows)
            settings = FileSettings.from_json(spec["settings"]) if "settings" in spec else None
            return load_open_clip(
                model, pretrained, settings=settings, windows=chosen, device=device, precision=precision
            )
        case {"kind": "trained", "file": file}:
            trained = TrainedFile.read(Path(file))
            base = load_parts(trained.base, device=device, precision=precision)
            name = f"{Path(file).stem} ({base.name}, trained)"
            return replace(apply_trained(base, trained, name=name, device=device), spec=dict(spec))
    raise EncoderError(f"an encoder of kind {spec.get('kind')!r} is unknown to this version: {dict(spec)}")
