"""Cut-outs, ready to be placed in scenes: trimmed, limited in size, with their main colour; each is read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from training.starter.pictures import Picture

_OPAQUE = 128  # smallest alpha of a pixel that belongs to the object
_GREY_SATURATION, _PALE_SATURATION = 40, 90
_HUES = ((12, "red"), (27, "orange"), (45, "yellow"), (115, "green"), (175, "blue"), (200, "purple"), (235, "pink"))
_PLAIN_SHARE = 0.45  # smallest share of the object's pixels in its main colour


@dataclass(frozen=True, slots=True)
class CutOut:
    """One object.

    Attributes:
        name: its name.
        image: mode RGBA, without transparent margin.
        colour: its main colour, or None if no colour dominates.
    """

    name: str
    image: Image.Image
    colour: str | None


class CutOuts:
    """Reads cut-outs, and caches the most recently used."""

    def __init__(self, *, longest_side: int = 192, most: int = 4096) -> None:
        """Set limits.

        Args:
            longest_side: in pixels; larger cut-outs are shrunk to it.
            most: largest number of cached cut-outs.
        """
        self._longest_side = longest_side
        self._read = lru_cache(maxsize=most)(self._load)

    def __call__(self, picture: Picture) -> CutOut | None:
        """Return the cut-out, or None if no pixel of the picture is opaque."""
        return self._read(picture)

    def _load(self, picture: Picture) -> CutOut | None:
        whole = Image.open(picture.path).convert("RGBA")
        box = whole.getchannel("A").point(lambda alpha: 255 * (alpha >= _OPAQUE)).getbbox()
        if box is None:
            return None
        image = whole.crop(box)
        scale = self._longest_side / max(image.size)
        if scale < 1:
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            image = image.resize(size, Image.Resampling.LANCZOS)
        return CutOut(picture.name, image, main_colour(image))


def main_colour(image: Image.Image) -> str | None:
    """Name the colour that most opaque pixels of an RGBA image have.

    Returns:
        One of eleven colour words; None if no colour covers at least 45 % of the object.
    """
    small = image.resize((min(image.width, 48), min(image.height, 48)), Image.Resampling.BOX)
    hue, saturation, value = np.asarray(small.convert("RGB").convert("HSV"), dtype=np.int16).transpose(2, 0, 1)
    names = np.full(hue.shape, "pink", dtype="<U6")
    for end, name in reversed(_HUES):
        names[hue < end] = name
    names[hue >= 245] = "red"
    names[(names == "red") & (saturation < 150) & (value > 180)] = "pink"
    names[np.isin(names, ["red", "orange", "yellow"]) & (value < 150) & (saturation >= _GREY_SATURATION)] = "brown"
    names[(saturation < _GREY_SATURATION) | ((saturation < _PALE_SATURATION) & (value < 60))] = "grey"
    names[(names == "grey") & (value > 205)] = "white"
    names[value < 45] = "black"
    colours, counts = np.unique(names[np.asarray(small.getchannel("A")) >= _OPAQUE], return_counts=True)
    if not len(colours) or counts.max() < _PLAIN_SHARE * counts.sum():
        return None
    return str(colours[counts.argmax()])
