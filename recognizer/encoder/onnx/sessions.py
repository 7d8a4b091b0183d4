"""Run an exported encoder on onnxruntime, in place of the torch modules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.onnx.folder import (
    IMAGE,
    INSTALL,
    PIXELS,
    TEXT,
    TOKENS,
    VECTORS,
    OnnxCard,
    check_files,
    damaged_card,
    read_card,
    windows_of,
)
from recognizer.encoder.onnx.surroundings import Surroundings
from recognizer.encoder.parts import EncoderParts
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.regions import Regions

if TYPE_CHECKING:
    import onnxruntime


class OnnxRegions:
    """Finds regions with onnxruntime, as `RegionFinder` does with torch.

    A pass of one image costs each image no more than a pass of several, and leaves no blanks.
    """

    pass_size = 1

    def __init__(self, path: Path) -> None:
        """Read the file of the images."""
        self._session = _open_session(path, threads=1)  # the passes of a batch share the cores

    def find(self, pixels: Tensor) -> list[Regions]:
        """Find the regions of (B, 3, H, W) uint8 pixels, in one pass."""
        outputs = self._session.run(list(Regions._fields), {PIXELS: pixels.contiguous().numpy()})
        return [Regions(*map(torch.from_numpy, outputs))]


class OnnxTextTower:
    """A text tower whose forward pass runs on onnxruntime."""

    network = None

    def __init__(self, path: Path, surroundings: Surroundings, *, dim: int) -> None:
        """Make the tokenizer, and read the file of the texts."""
        self._session = _open_session(path, threads=torch.get_num_threads())
        self.dim = dim
        self.context_length = surroundings.context_length
        self.pad_id = surroundings.pad_id
        self.tokenize = surroundings.tokens()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Token counts from the tokenizer."""
        return self.tokenize.count(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) padded token ids to (N, D) vectors."""
        (vectors,) = self._session.run([VECTORS], {TOKENS: tokens.numpy()})
        return torch.from_numpy(vectors)


@dataclass(frozen=True, slots=True)
class OnnxParts:
    """What an `Encoder` on onnxruntime is made of; the names are those of `EncoderParts`.

    Attributes:
        name: What people call the encoder.
        fingerprint: Hash over architecture, weights, tokenizer and preprocessing, of the encoder that was exported.
        spec: Of that encoder.
        dim: D, dimensions of the joint space.
        preprocessing: How pictures become pixels.
        regions: Finds the regions.
        text_tower: Encodes texts.
        templates: Texts around a category name.
        temperature: Divides cosines.
        region_source: Where region vectors come from, in words for people.
        has_decoder: Whether a grounding decoder finds the regions.
    """

    name: str
    fingerprint: str
    spec: dict[str, Any]
    dim: int
    preprocessing: Preprocessing
    regions: OnnxRegions
    text_tower: OnnxTextTower
    templates: tuple[str, ...]
    temperature: float
    region_source: str
    has_decoder: bool


def open_onnx(spec: Mapping[str, Any], folder: Path, load: Callable[[], EncoderParts]) -> OnnxParts:
    """Open the exported form of an encoder.

    Its torch weights are read only where the folder does not say that it was exported from this spec: the files may be
    those of the encoder all the same, under another name.

    Args:
        spec: Of the encoder.
        folder: What `export_onnx` wrote from it.
        load: Loads the encoder on torch.

    Raises:
        EncoderUnavailable: onnxruntime or a file is missing.
        EncoderError: A file is damaged, or the folder was exported from another encoder.
    """
    card = read_card(folder)
    check_files(folder, card)
    if card.surroundings is not None and card.encoder.spec == json.loads(json.dumps(dict(spec))):
        name, known_spec = card.encoder.name, card.encoder.spec
        surroundings = _read_surroundings(folder, card.surroundings)
    else:
        parts = load()
        _require_same(folder, card, parts)
        name, known_spec = parts.name, parts.spec
        surroundings = Surroundings.of(parts)
    return OnnxParts(
        name=name,
        fingerprint=card.encoder.fingerprint,
        spec=dict(known_spec),
        dim=card.encoder.dim,
        preprocessing=surroundings.preprocessing,
        regions=OnnxRegions(folder / IMAGE),
        text_tower=OnnxTextTower(folder / TEXT, surroundings, dim=card.encoder.dim),
        templates=surroundings.templates,
        temperature=surroundings.temperature,
        region_source=surroundings.region_source,
        has_decoder=card.windows is None,
    )


def _read_surroundings(folder: Path, value: Mapping[str, Any]) -> Surroundings:
    try:
        return Surroundings.from_json(value)
    except (KeyError, TypeError, EncoderError) as error:
        raise damaged_card(folder, error) from error


def _require_same(folder: Path, card: OnnxCard, parts: EncoderParts) -> None:
    """Refuse a folder of another encoder."""
    if card.encoder.fingerprint != parts.fingerprint:
        raise EncoderError(
            f"{folder} was exported from another encoder: its weights are those of {card.encoder.name}, fingerprint "
            f"{card.encoder.fingerprint[:12]}, and here {parts.name}, {parts.fingerprint[:12]}, is needed; give the "
            "folder that was exported from it"
        )
    if card.windows != windows_of(parts):
        raise EncoderError(
            f"{folder} was exported with the windows {card.windows}, and here {windows_of(parts)} are needed; give the "
            "folder that was exported with them"
        )


def _open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderUnavailable(f"onnxruntime, which runs {path}, is not installed; {INSTALL}") from error
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise EncoderError(f"onnxruntime cannot read {path}: {error}; export it again") from error
