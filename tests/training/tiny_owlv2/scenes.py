"""The cut-outs that the tiny detector knows, drawn, and scenes of them on canvases of any shape."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw

MODEL = Path(__file__).parent / "model"
SIDE = 256
"""Side in pixels of the square that a cut-out is drawn in."""
SHAPES = {"square": (640, 640), "4:1": (1200, 300), "1:4": (300, 1200)}
"""Width and height in pixels of the scenes that the detector knows best."""


def _ball(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((8, 8, 248, 248), fill=(205, 30, 35), outline=(120, 10, 15), width=10)
    draw.ellipse((70, 50, 120, 100), fill=(255, 190, 190))


def _box(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((4, 50, 252, 206), fill=(30, 70, 200), outline=(10, 20, 90), width=12)
    draw.line((128, 50, 128, 206), fill=(230, 230, 250), width=16)


def _tree(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((108, 190, 148, 252), fill=(110, 70, 30))
    draw.polygon([(128, 4), (222, 200), (34, 200)], fill=(20, 130, 50))


def _star(draw: ImageDraw.ImageDraw) -> None:
    corners = [(math.pi * (n / 5 - 0.5), 122 if n % 2 == 0 else 56) for n in range(10)]
    points = [(128 + length * math.cos(turn), 134 + length * math.sin(turn)) for turn, length in corners]
    draw.polygon(points, fill=(250, 205, 30), outline=(190, 120, 0), width=6)


_DRAWN: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
    "a red ball": _ball,
    "a blue box": _box,
    "a green tree": _tree,
    "a yellow star": _star,
}
NAMES = tuple(_DRAWN)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and the boxes in it.

    Attributes:
        image: mode RGB.
        boxes_xyxy: by name, in pixels of the image.
    """

    image: Image.Image
    boxes_xyxy: dict[str, tuple[int, int, int, int]]


@cache
def cut_out(name: str) -> Image.Image:
    """Draw a cut-out, mode RGBA, as large as what it shows."""
    image = Image.new("RGBA", (SIDE, SIDE))
    _DRAWN[name](ImageDraw.Draw(image))
    return image.crop(image.getbbox())


def known_scenes(shape: str) -> list[Scene]:
    """Make the six scenes of a shape that the detector was overfitted to: of one cut-out, and of two."""
    rng = random.Random(shape)
    return [make_scene(rng, SHAPES[shape], tuple(rng.sample(NAMES, count))) for count in (1, 1, 1, 2, 2, 2)]


def make_scene(rng: random.Random, size_wh: tuple[int, int], names: tuple[str, ...]) -> Scene:
    """Paste cut-outs, apart from each other, at random places and in random sizes on a ground of one pale colour.

    Args:
        rng: of every choice.
        size_wh: width and height in pixels.
        names: what is shown, at most three.
    """
    width, height = size_wh
    image = Image.new("RGB", size_wh, tuple(rng.randint(150, 235) for _ in range(3)))
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for name in names:
        shown = cut_out(name)
        for _ in range(50):
            # Of the shorter side: in a long picture nearly all of it, for there it is short in the model's input.
            most = 0.95 if max(size_wh) > 2 * min(size_wh) else 0.6
            scale = rng.uniform(0.6 * most, most) * min(size_wh) / max(shown.size)
            wide, high = round(shown.width * scale), round(shown.height * scale)
            x, y = rng.randint(0, width - wide), rng.randint(0, height - high)
            box = (x, y, x + wide, y + high)
            if not any(_touch(box, other) for other in boxes.values()):
                small = shown.resize((wide, high), Image.Resampling.LANCZOS)
                image.paste(small, (x, y), small)
                boxes[name] = box
                break
    return Scene(image, boxes)


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
