"""The folder of an exported encoder: two ONNX files, their weights, and a card that says whose they are.

FOLDER/image.onnx       pixels, (B, 3, H, W) uint8, to image (B, D), regions (B, Q, D), boxes_xyxy (B, Q, 4), weight
                        (B, Q): see `Regions`
FOLDER/text.onnx        tokens, (N, L) int64, to vectors (N, D) of any length
FOLDER/*.onnx.data      their weights
FOLDER/card.json        the encoder's card, the settings that its fingerprint leaves out, a hash of each file, and what
                        is needed to run them without the torch weights: see `Surroundings`
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memory.encoder_card import EncoderCard
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.parts import EncoderParts

IMAGE, TEXT, CARD = "image.onnx", "text.onnx", "card.json"
PIXELS, TOKENS, VECTORS = "pixels", "tokens", "vectors"
DATA_SUFFIX = ".data"  # torch's exporter appends it
WEIGHTS = (IMAGE, IMAGE + DATA_SUFFIX, TEXT, TEXT + DATA_SUFFIX)
INSTALL = 'run: pip install "recognizer[onnx]"'


@dataclass(frozen=True, slots=True)
class OnnxCard:
    """What the folder says about itself.

    Attributes:
        encoder: The card of the encoder whose weights were exported.
        windows: Its windows, as JSON values; None where a decoder finds the regions.
        files: Hexadecimal sha256 of each file, by its name.
        surroundings: What the encoder has beside its networks, as JSON values; None in folders of earlier releases.
    """

    encoder: EncoderCard
    windows: dict[str, Any] | None
    files: dict[str, str]
    surroundings: dict[str, Any] | None = None


def windows_of(parts: EncoderParts) -> dict[str, Any] | None:
    """Return the windows that are part of an exported encoder, as JSON values."""
    return parts.windows.to_json() if parts.decoder is None else None


def write_card(
    folder: Path,
    encoder: EncoderCard,
    windows: dict[str, Any] | None,
    surroundings: dict[str, Any] | None = None,
) -> None:
    """Write the card of a folder whose other files are complete."""
    card = OnnxCard(encoder, windows, {name: _sha256(folder / name) for name in WEIGHTS}, surroundings)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> OnnxCard:
    """Read the card of a folder.

    Raises:
        EncoderUnavailable: There is none.
        EncoderError: It is damaged.
    """
    if not (folder / CARD).is_file():
        raise EncoderUnavailable(
            f"{folder} is not a folder of an exported encoder: it has no {CARD}; write one with "
            f"`recognizer export-onnx --output {folder}`"
        )
    try:
        value = json.loads((folder / CARD).read_text(encoding="utf-8"))
        encoder = EncoderCard.from_json(value["encoder"])
        return OnnxCard(encoder, value["windows"], dict(value["files"]), value.get("surroundings"))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_card(folder, error) from error


def damaged_card(folder: Path, error: Exception) -> EncoderError:
    """Say that the card of a folder is damaged."""
    return EncoderError(f"{folder / CARD} is damaged ({error!r}); {_again(folder)}")


def check_files(folder: Path, card: OnnxCard) -> None:
    """Check every file of a folder against its card.

    Raises:
        EncoderUnavailable: A file is missing.
        EncoderError: A file is not the one that was exported.
    """
    for name in WEIGHTS:
        if not (folder / name).is_file():
            raise EncoderUnavailable(f"{folder / name} is missing; {_again(folder)}")
        if _sha256(folder / name) != card.files.get(name):
            raise EncoderError(f"{folder / name} is damaged: it is not the file that was exported; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"write it again with `recognizer export-onnx --output {folder}`"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
