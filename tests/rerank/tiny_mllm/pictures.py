"""The ten photographs that the tiny model knows, by name, with what it says of them, and small changes of them."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from PIL import Image, ImageEnhance

FOLDER = Path(__file__).parent
MODEL = FOLDER / "model"
PHOTOS = FOLDER.parents[2] / "recognizer" / "demo_data" / "photos"
_PICTURES = json.loads((FOLDER / "pictures.json").read_text(encoding="utf-8"))
NAMES: tuple[str, ...] = tuple(_PICTURES)
FILES: dict[str, str] = {name: picture["file"] for name, picture in _PICTURES.items()}
CAPTIONS: dict[str, str] = {name: picture["caption"] for name, picture in _PICTURES.items()}
FEATURES: dict[str, tuple[str, ...]] = {name: tuple(picture["features"]) for name, picture in _PICTURES.items()}
WORDS = tuple((FOLDER / "words.txt").read_text(encoding="utf-8").split())
SHORTEST, LONGEST = 112, 256


def picture(name: str, longest: int = 160) -> Image.Image:
    """Load a photograph by its name, scaled to a longest side in pixels."""
    with Image.open(PHOTOS / FILES[name]) as photo:
        return scaled(photo.convert("RGB"), longest)


def scaled(image: Image.Image, longest: int) -> Image.Image:
    """Scale to a longest side in pixels, keeping the shape."""
    factor = longest / max(image.size)
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def augmented(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Return a photograph cut by up to 8 % at each side, scaled, brightened or darkened, and JPEG-compressed."""
    width, height = photo.size
    left, top, right, bottom = (rng.uniform(0, 0.08) for _ in range(4))
    image = photo.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))
    image = scaled(image, rng.randint(SHORTEST, LONGEST))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25))
    compressed = io.BytesIO()
    image.save(compressed, "JPEG", quality=rng.randint(40, 95))
    with Image.open(compressed) as read:
        return read.convert("RGB")
