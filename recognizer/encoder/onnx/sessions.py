"""Run an exported encoder on onnxruntime, in place of the torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    check_files,
    read_card,
    windows_of,
)
from recognizer.encoder.parts import EncoderParts
from recognizer.encoder.regions import Regions
from recognizer.encoder.towers import TextTower

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

    def __init__(self, tower: TextTower, path: Path) -> None:
        """Take the tower, whose tokenizer is used, and read the file of the texts."""
        self._session = _open_session(path, threads=torch.get_num_threads())
        self.dim = tower.dim
        self.context_length = tower.context_length
        self.pad_id = tower.pad_id
        self.tokenize = tower.tokenize
        self._inner = tower

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Token counts from the tokenizer."""
        return self._inner.count_tokens(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) padded token ids to (N, D) vectors."""
        (vectors,) = self._session.run([VECTORS], {TOKENS: tokens.numpy()})
        return torch.from_numpy(vectors)


def open_onnx(parts: EncoderParts, folder: Path) -> tuple[EncoderParts, OnnxRegions]:
    """Open the exported form of an encoder.

    Args:
        parts: The encoder; its tokenizer and preprocessing are used.
        folder: What `export_onnx` wrote from this encoder.

    Returns:
        The parts with the text tower on onnxruntime, and what finds the regions.

    Raises:
        EncoderUnavailable: onnxruntime or a file is missing.
        EncoderError: A file is damaged, or the folder was exported from another encoder.
    """
    card = read_card(folder)
    check_files(folder, card)
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
    return replace(parts, text_tower=OnnxTextTower(parts.text_tower, folder / TEXT)), OnnxRegions(folder / IMAGE)


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
