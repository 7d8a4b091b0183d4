"""Scenes composed of cut-outs on photographs, with known boxes, on which regions are measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.starter.pictures import Picture

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """How a scene is composed; lengths in pixels of the scene.

    Attributes:
        size: side of the square scene.
        objects: smallest and largest number of objects.
        longest_side: smallest and largest length of an object's longer side.
        background_share: smallest and largest part of the background's shorter side that is shown.
        overlap: largest share of the smaller of two objects' boxes that may lie inside the other.
    """

    size: int = 224
    objects: tuple[int, int] = (2, 4)
    longest_side: tuple[float, float] = (60, 110)
    background_share: tuple[float, float] = (0.6, 1.0)
    overlap: float = 0.15


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed picture (mode RGB), the names of its objects, and their boxes (x0, y0, x1, y1) in its pixels."""

    image: Image.Image
    names: tuple[str, ...]
    boxes_xyxy: tuple[Box, ...]


def compose(
    pictures: Sequence[Picture],
    backgrounds: Sequence[Path],
    count: int,
    *,
    seed: int,
    settings: SceneSettings | None = None,
) -> list[Scene]:
    """Compose scenes; the same arguments give the same scenes.

    Args:
        pictures: cut-outs to place; no name appears twice in a scene.
        backgrounds: photographs.
        count: number of scenes.
        seed: of every choice.
        settings: sizes and numbers.
    """
    rng = random.Random(seed)
    settings = settings or SceneSettings()
    return [_compose_one(rng, pictures, backgrounds, settings) for _ in range(count)]


def _compose_one(
    rng: random.Random, pictures: Sequence[Picture], backgrounds: Sequence[Path], settings: SceneSettings
) -> Scene:
    canvas = _background(rng, rng.choice(backgrounds), settings)
    wanted = rng.randint(*settings.objects)
    names: list[str] = []
    boxes: list[Box] = []
    while len(names) < wanted:
        picture = rng.choice(pictures)
        if picture.name in names:
            continue
        cut_out = _cut_out(picture, rng.uniform(*settings.longest_side))
        box = _free_place(rng, cut_out.size, boxes, settings)
        canvas.paste(cut_out, box[:2], cut_out)
        names.append(picture.name)
        boxes.append(box)
    return Scene(canvas, tuple(names), tuple(boxes))


def _background(rng: random.Random, path: Path, settings: SceneSettings) -> Image.Image:
    photograph = Image.open(path).convert("RGB")
    side = int(min(photograph.size) * rng.uniform(*settings.background_share))
    left, top = rng.randint(0, photograph.width - side), rng.randint(0, photograph.height - side)
    shown = photograph.crop((left, top, left + side, top + side))
    return shown.resize((settings.size, settings.size), Image.Resampling.BICUBIC)


def _cut_out(picture: Picture, longest_side: float) -> Image.Image:
    """Return the picture without its transparent margin, scaled to the given longer side."""
    whole = Image.open(picture.path).convert("RGBA")
    cut_out = whole.crop(whole.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox())
    scale = longest_side / max(cut_out.size)
    size = max(4, round(cut_out.width * scale)), max(4, round(cut_out.height * scale))
    return cut_out.resize(size, Image.Resampling.LANCZOS)


def _free_place(rng: random.Random, size: tuple[int, int], taken: Sequence[Box], settings: SceneSettings) -> Box:
    """Return a place with little overlap, or the last of 50 that were tried."""
    for _ in range(50):
        left, top = rng.randint(0, settings.size - size[0]), rng.randint(0, settings.size - size[1])
        box = (left, top, left + size[0], top + size[1])
        if all(_overlap(box, other) < settings.overlap for other in taken):
            break
    return box


def _overlap(a: Box, b: Box) -> float:
    """Return the intersection as a share of the smaller box."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
