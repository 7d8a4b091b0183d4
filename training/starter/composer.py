"""Training scenes: objects on photographs that may overlap and stick out, with exact boxes of their visible parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from pydantic import BaseModel, ConfigDict, Field

from training.data.record import Record, Region
from training.data.side_words import swap_sides
from training.starter.cut_outs import CutOut, CutOuts
from training.starter.pictures import Picture, require_folds
from training.starter.scene_texts import SceneTexts, Seen

_VISIBLE = 64 / 255  # smallest share of a pixel's colour that comes from an object for the pixel to belong to it
_BACKGROUND_SIDE = 480  # pixels; larger photographs are shrunk, so that 256 of them fit in memory
_NAME_TRIES = 20  # draws per object; some pictures are empty and names must differ


class GroundedSettings(BaseModel):
    """How a scene is composed; lengths are shares of its side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=224, ge=32, description="Side of the square scene, in pixels.")
    objects: tuple[int, int] = Field(default=(1, 6), description="Smallest and largest number of objects.")
    longest_side: tuple[float, float] = Field(
        default=(0.18, 0.7), description="Smallest and largest longer side of an object, drawn on a logarithmic scale."
    )
    turn: float = Field(default=12.0, ge=0, description="Largest turn of an object either way, in degrees.")
    mirror: float = Field(default=0.5, ge=0, le=1, description="Probability that an object is mirrored.")
    brightness: tuple[float, float] = Field(default=(0.8, 1.15), description="Range of an object's brightness factor.")
    background_share: tuple[float, float] = Field(
        default=(0.4, 1.0), description="Smallest and largest share of the background's shorter side that is shown."
    )
    sticks_out: float = Field(
        default=0.15, ge=0, lt=0.5, description="Share of an object's sides that may lie outside."
    )
    visible_share: float = Field(
        default=0.4, gt=0, le=1, description="Smallest visible share of an object's area for it to be described."
    )
    plain: float = Field(
        default=0.0, ge=0, le=1, description="Probability that a scene is one large object on a plain background."
    )
    plain_side: tuple[float, float] = Field(
        default=(0.6, 1.0), description="Smallest and largest longer side of the object on a plain background."
    )


class Composer:
    """Composes scenes; a scene depends on the arguments and its number alone."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        backgrounds: Sequence[Path],
        texts: SceneTexts,
        *,
        seed: int,
        settings: GroundedSettings | None = None,
    ) -> None:
        """Take the material of the scenes.

        Args:
            pictures: cut-outs to place; a name is drawn first, then a picture of it.
            backgrounds: photographs.
            texts: writes captions and descriptions.
            seed: of every choice.
            settings: sizes and numbers.

        Raises:
            ValueError: there are no pictures or no backgrounds, or a name is not in the folds of `texts`.
        """
        if not pictures or not backgrounds:
            raise ValueError(f"{len(pictures)} pictures and {len(backgrounds)} backgrounds; scenes need both")
        self._settings = settings or GroundedSettings()
        self._by_name: dict[str, list[Picture]] = {}
        for picture in pictures:
            self._by_name.setdefault(picture.name, []).append(picture)
        self._names = sorted(self._by_name)
        require_folds(self._names, texts.folds)
        self._backgrounds, self._texts, self._seed = list(backgrounds), texts, seed
        self._cut_outs = CutOuts(longest_side=self._settings.size)
        self._background = lru_cache(maxsize=256)(_read_background)

    def __call__(self, number: int) -> tuple[Image.Image, Record]:
        """Compose a scene.

        Args:
            number: of the scene, 0 or more.

        Returns:
            The picture, mode RGB, and its captions and regions in its pixels. Objects that are mostly hidden are in
            neither.
        """
        rng = np.random.default_rng([self._seed, number])
        settings = self._settings
        if rng.random() < settings.plain:
            canvas, sides, chosen = self._plain_ground(rng), settings.plain_side, self._choose(1, rng)
        else:
            canvas, sides = self._ground(rng), settings.longest_side
            chosen = self._choose(int(rng.integers(settings.objects[0], settings.objects[1] + 1)), rng)
        layers = [self._place(cut_out, sides, rng) for cut_out in chosen]
        for image, corner_xy, _ in layers:
            canvas.paste(image, corner_xy, image)
        seen = self._visible(layers)
        captions = self._texts.captions(seen, rng)
        regions = tuple(Region(one.box_xyxy, self._texts.descriptions(one, rng), 1.0) for one in seen)
        return canvas, Record(captions, regions)

    def _ground(self, rng: np.random.Generator) -> Image.Image:
        photograph = self._background(self._backgrounds[rng.integers(len(self._backgrounds))])
        side = max(1, int(min(photograph.size) * rng.uniform(*self._settings.background_share)))
        left, top = rng.integers(photograph.width - side + 1), rng.integers(photograph.height - side + 1)
        size = (self._settings.size, self._settings.size)
        box = (float(left), float(top), float(left + side), float(top + side))
        shown = photograph.resize(size, Image.Resampling.BILINEAR, box=box)
        return shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else shown

    def _plain_ground(self, rng: np.random.Generator) -> Image.Image:
        """Return a background that is white in half of the scenes, else a light colour."""
        colour = (255, 255, 255) if rng.random() < 0.5 else tuple(map(int, rng.integers(160, 256, 3)))
        return Image.new("RGB", (self._settings.size, self._settings.size), colour)

    def _choose(self, wanted: int, rng: np.random.Generator) -> list[CutOut]:
        """Draw objects with different names."""
        chosen: dict[str, CutOut] = {}
        for _ in range(_NAME_TRIES * wanted):
            name = self._names[rng.integers(len(self._names))]
            pictures = self._by_name[name]
            cut_out = self._cut_outs(pictures[rng.integers(len(pictures))])
            if cut_out is not None and name.casefold() not in chosen:
                chosen[name.casefold()] = cut_out
            if len(chosen) == wanted:
                break
        return list(chosen.values())

    def _place(
        self, cut_out: CutOut, longest_side: tuple[float, float], rng: np.random.Generator
    ) -> tuple[Image.Image, tuple[int, int], CutOut]:
        """Scale, mirror, turn and brighten an object; return it with the place of its corner, which may lie outside."""
        settings = self._settings
        low, high = longest_side
        longest = math.exp(rng.uniform(math.log(low), math.log(high))) * settings.size
        scale = longest / max(cut_out.image.size)
        size = max(4, round(cut_out.image.width * scale)), max(4, round(cut_out.image.height * scale))
        image = cut_out.image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        if rng.random() < settings.mirror and swap_sides(cut_out.name) == cut_out.name:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        angle = rng.uniform(-settings.turn, settings.turn)
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        alpha = image.getchannel("A")
        image = ImageEnhance.Brightness(image.convert("RGB")).enhance(rng.uniform(*settings.brightness))
        image.putalpha(alpha)
        corner_xy = self._corner(image.width, rng), self._corner(image.height, rng)
        return image, corner_xy, cut_out

    def _corner(self, length: int, rng: np.random.Generator) -> int:
        out = int(self._settings.sticks_out * length)
        return int(rng.integers(-out, max(self._settings.size - length + out, -out) + 1))

    def _visible(self, layers: Sequence[tuple[Image.Image, tuple[int, int], CutOut]]) -> list[Seen]:
        """Return the objects that are visible enough, in the order in which they were placed."""
        size = self._settings.size
        clear: NDArray[np.float32] = np.ones(
            (size, size), dtype=np.float32
        )  # share of each pixel not covered by later objects
        seen: list[Seen] = []
        for image, (left, top), cut_out in reversed(layers):
            alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / np.float32(255)
            x0, y0 = max(left, 0), max(top, 0)
            inside = alpha[y0 - top : size - top, x0 - left : size - left]
            window = clear[y0 : y0 + inside.shape[0], x0 : x0 + inside.shape[1]]
            visible = inside * window
            window *= 1 - inside
            box_xyxy = mask_box(visible >= _VISIBLE, (x0, y0))
            if box_xyxy is not None and visible.sum() >= self._settings.visible_share * alpha.sum():
                seen.append(Seen(cut_out.name, cut_out.colour, box_xyxy, size))
        return seen[::-1]


def mask_box(mask: NDArray[np.bool_], corner_xy: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Return the smallest box (x0, y0, x1, y1) around the true pixels of an (H, W) mask with its corner at `corner_xy`.

    None if there are no true pixels.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    x, y = corner_xy
    return float(columns[0] + x), float(rows[0] + y), float(columns[-1] + 1 + x), float(rows[-1] + 1 + y)


def _read_background(path: Path) -> Image.Image:
    photograph = Image.open(path).convert("RGB")
    photograph.thumbnail((_BACKGROUND_SIDE, _BACKGROUND_SIDE))
    return photograph
