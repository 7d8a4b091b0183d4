"""Convert any pixel mode of Pillow to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

BACKGROUND_RGB = (255, 255, 255)
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_USUAL_MAXIMA = (255.0, 4095.0, 65535.0)  # 8 bits, 12 bits (medical and raw cameras), 16 bits
_BLOCK_SAMPLES = 2**20  # scaled at a time, in whole rows; float copies of the whole image would take 20 bytes per pixel


def to_rgb8(image: Image.Image) -> Image.Image:
    """Convert a loaded image to mode RGB.

    Transparent pixels become white. Samples of more than 8 bits are scaled by their range (`scale_to_uint8`), never
    clipped. The inks of a CMYK JPEG without the Adobe marker are read as not inverted. Colour profiles are ignored.

    Args:
        image: a loaded image of any mode.

    Returns:
        An image of mode RGB and the same size; `image` itself if it has that mode already.

    Raises:
        ValueError: the mode has no conversion to RGB, or no sample is a finite number.
    """
    if image.mode in _DEEP_MODES:
        return Image.fromarray(scale_to_uint8(np.asarray(image))).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _on_background(image)
    if image.mode == "CMYK" and image.format in {"JPEG", "MPO"} and "adobe" not in image.info:
        image = ImageChops.invert(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def scale_to_uint8(samples: np.ndarray) -> np.ndarray:
    """Scale grey samples of more than 8 bits to 0..255.

    The range is 0 to the smallest of 255, 4095 and 65535 (for floats also 1) that no sample exceeds. If there is none,
    or a sample is negative, it is the minimum to the maximum of the image.

    Args:
        samples: (H, W), any integer or float dtype; samples that are not finite become 0.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: no sample is finite.
    """
    blocks = np.array_split(samples, samples.size // _BLOCK_SAMPLES + 1)
    ranges = [(values.min(), values.max()) for values in map(_finite, blocks) if values.size]
    if not ranges:
        raise ValueError("no pixel is a finite number")
    low, high = float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))
    maxima = (1.0, *_USUAL_MAXIMA) if samples.dtype.kind == "f" else _USUAL_MAXIMA
    fitting = [maximum for maximum in maxima if high <= maximum]
    start, stop = (0.0, fitting[0]) if low >= 0 and fitting else (low, high)
    scale = 255.0 / (stop - start) if stop > start else 0.0
    return np.concatenate([_scale(block, start, scale) for block in blocks])


def _finite(samples: np.ndarray) -> np.ndarray:
    values = samples.astype(np.float32)
    return values[np.isfinite(values)]


def _scale(samples: np.ndarray, start: float, scale: float) -> np.ndarray:
    values = samples.astype(np.float32)
    # Halved, because the difference of two float32 can exceed the largest float32.
    halves = np.where(np.isfinite(values), values, start) * 0.5 - start * 0.5
    return np.clip(np.rint(halves * (2.0 * scale)), 0, 255).astype(np.uint8)


def _on_background(image: Image.Image) -> Image.Image:
    if image.mode in {"La", "RGBa", "PA"}:
        image = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}[image.mode])
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, BACKGROUND_RGB)
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas
