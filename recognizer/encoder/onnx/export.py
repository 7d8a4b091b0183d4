"""Write an encoder as ONNX files."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from memory.encoder_card import EncoderCard
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.onnx.folder import CARD, IMAGE, INSTALL, PIXELS, TEXT, TOKENS, VECTORS, windows_of, write_card
from recognizer.encoder.onnx.surroundings import Surroundings
from recognizer.encoder.parts import EncoderParts
from recognizer.encoder.regions import RegionFinder, Regions
from recognizer.encoder.text_batches import BUCKET_STEP, bucket_length
from recognizer.encoder.towers import TextTower

_BATCH = 2  # of the example inputs; a batch of 1 would be taken for a constant
_EXAMPLE_TEXT = "a photo of a cat."


def export_onnx(parts: EncoderParts, folder: Path) -> EncoderCard:
    """Write the towers of an encoder, and its decoder where it has one, as ONNX files for any batch size.

    Args:
        parts: On the CPU, in fp32.
        folder: Receives the files; it is made where it does not exist, and earlier files are replaced.

    Returns:
        The card that the folder now has.

    Raises:
        EncoderUnavailable: A library is not installed.
        EncoderError: `folder` is a file, or the encoder uses an operation that cannot be exported.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise EncoderUnavailable(f"exporting needs {' and '.join(missing)}; {INSTALL}")
    if folder.exists() and not folder.is_dir():
        raise EncoderError(f"{folder} is a file; name a folder for the ONNX files")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)  # an interrupted export leaves no folder that looks complete
    height, width = parts.image_tower.preprocessing.size_hw
    pixels = torch.zeros(_BATCH, 3, height, width, dtype=torch.uint8)
    images = _Images(RegionFinder(parts.image_tower, parts.decoder, parts.windows, bf16=False))
    any_size = torch.export.Dim.DYNAMIC
    _export(images, pixels, {0: any_size}, folder / IMAGE, PIXELS, list(Regions._fields))
    tokens = _example_tokens(parts.text_tower)
    dynamic = {0: any_size}
    if tokens.shape[1] < parts.text_tower.context_length:
        dynamic[1] = any_size
    _export(_Texts(parts.text_tower), tokens, dynamic, folder / TEXT, TOKENS, [VECTORS])
    card = EncoderCard(
        name=parts.name, fingerprint=parts.fingerprint, precision="fp32", dim=parts.image_tower.dim, spec=parts.spec
    )
    write_card(folder, card, windows_of(parts), Surroundings.of(parts).to_json())
    return card


class _Images(nn.Module):
    """Pixels to regions, the weights registered under it."""

    def __init__(self, finder: RegionFinder) -> None:
        super().__init__()
        self._finder = finder
        self.network = finder.tower.network
        self.decoder = finder.decoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        normalized = self._finder.tower.preprocessing.normalize(pixels)
        return tuple(self._finder.regions_of(normalized, self._finder.read(normalized)))


class _Texts(nn.Module):
    """Tokens to vectors, the weights registered under it."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self._tower = tower
        self.network = tower.network

    def forward(self, tokens: Tensor) -> Tensor:
        return self._tower.forward(tokens)


def _example_tokens(tower: TextTower) -> Tensor:
    """Return tokens of two texts, padded to more than one step where the tower takes several lengths."""
    sequence = tower.tokenize([_EXAMPLE_TEXT])[0]
    length = bucket_length(len(sequence) + BUCKET_STEP, tower.context_length)
    tokens = torch.full((_BATCH, length), tower.pad_id, dtype=torch.int64)
    tokens[:, : len(sequence)] = torch.tensor(sequence)
    return tokens


def _export(
    module: nn.Module, example: Tensor, dynamic: dict[int, torch.export.Dim], path: Path, name: str, outputs: list[str]
) -> None:
    with _exporting():
        try:
            torch.onnx.export(
                module.eval(),
                (example,),
                path,
                input_names=[name],
                output_names=outputs,
                dynamic_shapes=(dynamic,),
                external_data=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise EncoderError(
                f"{path.name} cannot be exported: the encoder computes what torch's exporter does not translate "
                f"({_first_line(error)}); run this encoder without --onnx"
            ) from error


@contextlib.contextmanager
def _exporting() -> Iterator[None]:
    """Make torch compute with plain operations, which have a translation, and keep the exporter's chatter out."""
    fast = torch.backends.mha.get_fastpath_enabled()
    before = logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    try:
        # With gradients: without them convolutions are fused with what follows, for a CPU.
        with torch.enable_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        torch.backends.mha.set_fastpath_enabled(fast)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's cause, which names the operation."""
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
