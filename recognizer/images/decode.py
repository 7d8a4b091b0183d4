"""One image file to RGB pixels, or to one reason why not."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from recognizer.images.errors import ImageError
from recognizer.images.file_bytes import ends_early, foreign_kind, read_file_bytes
from recognizer.images.limits import ImageLimits
from recognizer.images.pixels import to_rgb8

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation.

    Args:
        image: an opened image. PNG needs to be loaded before, TIFF turns itself when loaded.

    Returns:
        1 to 8; 1 where there is none or it cannot be read, so that a damaged tag does not cost the picture.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  the EXIF parser raises anything on damaged tags
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def swaps_sides(orientation: int) -> bool:
    """Tell whether the displayed image has the stored height as its width."""
    return orientation >= 5


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn stored pixels into displayed pixels; returns `image` itself for orientation 1."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


_OPENERS: dict[str, Callable[[IO[bytes], str], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_TRUNCATION_WORDS = ("truncated", "not enough image data", "unexpected end")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        image: mode RGB, upright; where it was decoded at reduced scale, smaller than the displayed image.
        displayed_size_hw: height and width in pixels of the full image as a viewer shows it (EXIF applied).
        sha256: hex digest of the file's bytes.
        format: Pillow's name of the format found in the content, e.g. ``JPEG``.
    """

    image: Image.Image
    displayed_size_hw: tuple[int, int]
    sha256: str
    format: str


def decode_image(
    path: str | bytes | Path, *, limits: ImageLimits | None = None, target_size_hw: tuple[int, int] | None = None
) -> DecodedImage:
    """Read and decode one image file; safe to call from many threads.

    Args:
        path: a regular file; the format is told by its content, not by its name.
        limits: checked before any pixel is decoded; the defaults of :class:`ImageLimits` where None.
        target_size_hw: see :func:`decode_bytes`.

    Returns:
        The image; of an animation, its first frame.

    Raises:
        ImageError: the file cannot be read or decoded; every failure comes as this.
    """
    limits = limits or ImageLimits()
    data = read_file_bytes(path, max_bytes=limits.max_file_bytes)
    return decode_bytes(data, limits=limits, target_size_hw=target_size_hw)


def decode_bytes(
    data: bytes, *, limits: ImageLimits | None = None, target_size_hw: tuple[int, int] | None = None
) -> DecodedImage:
    """Decode the content of one image file.

    Args:
        data: the whole content of the file.
        limits: checked before any pixel is decoded; the defaults of :class:`ImageLimits` where None.
        target_size_hw: height and width in pixels, in the displayed frame. A JPEG may then be decoded at 1/2, 1/4 or
            1/8 of its size, as long as both sides stay at least this long. None decodes at full size.

    Returns:
        The image; of an animation, its first frame.

    Raises:
        ImageError: the content cannot be decoded; every failure comes as this.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageError("E_EMPTY", "the file has no bytes")
    if len(data) > limits.max_file_bytes:
        raise ImageError("E_TOO_LARGE", f"{len(data)} bytes; images.max_file_bytes is {limits.max_file_bytes}")
    image_format = _detect_format(data, limits)
    try:
        with _OPENERS[image_format](io.BytesIO(data), "") as stored:  # `Image.open` has its own limit of pixels
            _check_size(stored.size, limits)
            upright, displayed_size_hw = _load_upright(stored, target_size_hw)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001  on damaged files the decoders raise almost any exception type
        raise _as_image_error(error, data, image_format) from None
    return DecodedImage(upright, displayed_size_hw, hashlib.sha256(data).hexdigest(), image_format)


def _detect_format(data: bytes, limits: ImageLimits) -> str:
    for name in limits.formats:
        _, accepts = Image.OPEN.get(name, (None, None))
        if accepts is not None and accepts(data[:16]) is True:
            return name
    allowed = ", ".join(limits.formats)
    raise ImageError("E_NOT_IMAGE", f"this is {foreign_kind(data)}; none of the allowed formats ({allowed})")


def _check_size(size_wh: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size_wh
    if width <= 0 or height <= 0:
        raise ImageError("E_DECODE", f"the header gives a size of {width}×{height} pixels")
    if width * height > limits.max_pixels:
        raise ImageError("E_BOMB", f"{width}×{height} pixels; images.max_pixels is {limits.max_pixels}")
    if max(size_wh) > limits.max_aspect_ratio * min(size_wh):
        raise ImageError("E_ASPECT", f"{width}×{height} pixels; images.max_aspect_ratio is {limits.max_aspect_ratio:g}")


def _load_upright(
    stored: ImageFile.ImageFile, target_size_hw: tuple[int, int] | None
) -> tuple[Image.Image, tuple[int, int]]:
    """Load all pixels, reduced where allowed; returns the upright RGB image and the full displayed (height, width)."""
    full_size_wh = None
    if isinstance(stored, JpegImagePlugin.JpegImageFile):
        orientation = read_orientation(stored)
        full_size_wh = stored.size
        if target_size_hw is not None:
            height, width = target_size_hw
            stored.draft(None, (height, width) if swaps_sides(orientation) else (width, height))
        stored.load()
    else:
        stored.load()
        orientation = read_orientation(stored)
    width, height = full_size_wh or stored.size
    displayed_size_hw = (width, height) if swaps_sides(orientation) else (height, width)
    upright = turn_upright(to_rgb8(stored), orientation)
    upright.info = {}  # a second look at the orientation must not turn it again
    return upright, displayed_size_hw


def _as_image_error(error: Exception, data: bytes, image_format: str) -> ImageError:
    text = str(error)
    if isinstance(error, MemoryError):
        return ImageError("E_MEMORY", f"not enough memory to decode this {image_format}")
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("E_BOMB", "the header asks for more pixels than the decoder allows")
    if any(word in text.lower() for word in _TRUNCATION_WORDS) or ends_early(data, image_format):
        return ImageError("E_TRUNCATED", f"the {image_format} ends before the picture does ({len(data)} bytes)")
    detail = text if " " in text else f"{type(error).__name__} {text}".rstrip()
    return ImageError("E_DECODE", f"damaged or unsupported {image_format}: {detail}")
