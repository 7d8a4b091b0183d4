"""Decode one image file to upright RGB pixels; every failure is an `ImageError` with a code and a reason.

Pillow's plugins are called directly, not through `Image.open`: the format comes from the content and must be an allowed
one, and the limits of pixels are ours.
"""

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

from recognizer.images.content import HEAD_BYTES, content_kind, decodes_heic
from recognizer.images.errors import ImageError
from recognizer.images.file_bytes import RAW_PHOTO, ends_early, foreign_kind, read_file_bytes
from recognizer.images.limits import ImageLimits
from recognizer.images.pixels import to_rgb8


def _open_heif(stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    from pillow_heif import HeifImageFile  # turns the image upright by itself

    opened: ImageFile.ImageFile = HeifImageFile(stream, name)
    return opened


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
    "HEIF": _open_heif,
}
_DNG_VERSION, _NEW_SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330  # tags of TIFF
_TURNS = {  # from stored to displayed pixels, by EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRUNCATION_WORDS = ("truncated", "not enough image data", "unexpected end")  # in messages of Pillow's decoders
_MEMORY_WORDS = ("out of memory", "decoder error -9")  # -9 is IMAGING_CODEC_MEMORY of Pillow


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        image: mode RGB, upright; smaller than the displayed image if it was decoded at a reduced scale.
        displayed_size_hw: height and width in pixels of the full image as a viewer shows it (EXIF applied).
        sha256: hex digest of the file's bytes; empty for an image that came without a file.
        format: Pillow's name of the format found in the content, e.g. ``JPEG``; empty likewise.
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
        path: a regular file; the format is recognised by its content, not by its name.
        limits: checked before any pixel is decoded; None: the defaults.
        target_size_hw: as for `decode_bytes`.

    Returns:
        The image; of an animation, its first frame.

    Raises:
        ImageError: the file cannot be read or decoded; no other exception is raised.
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
        limits: checked before any pixel is decoded; None: the defaults.
        target_size_hw: height and width in pixels, in the displayed frame. A JPEG may then be decoded at 1/2, 1/4 or
            1/8 of its size, as long as both sides stay at least this long. None: full size.

    Returns:
        The image; of an animation, its first frame.

    Raises:
        ImageError: the content cannot be decoded; no other exception is raised.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageError("E_EMPTY", "the file has no bytes")
    if len(data) > limits.max_file_bytes:
        raise ImageError("E_TOO_LARGE", f"{len(data)} bytes; images.max_file_bytes is {limits.max_file_bytes}")
    image_format = _detect_format(data, limits)
    try:
        with _OPENERS[image_format](io.BytesIO(data), "") as stored:
            if isinstance(stored, TiffImagePlugin.TiffImageFile) and _is_raw(stored):
                raise ImageError("E_NOT_IMAGE", f"this is {RAW_PHOTO}")
            _check_size(stored.size, limits)
            upright, displayed_size_hw = _load_upright(stored, target_size_hw)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001  on damaged files the decoders raise almost any exception type
        raise _as_image_error(error, data, image_format) from None
    return DecodedImage(upright, displayed_size_hw, hashlib.sha256(data).hexdigest(), image_format)


def _detect_format(data: bytes, limits: ImageLimits) -> str:
    kind = content_kind(data[:HEAD_BYTES])
    if kind == "HEIC" and "HEIF" in limits.formats and decodes_heic():
        return "HEIF"
    for name in limits.formats if kind not in {"HEIC", "RAW"} else ():  # both fit the openers of images too
        _, accepts = Image.OPEN.get(name, (None, None))
        if accepts is not None and accepts(data[:16]) is True:
            return name
    allowed = ", ".join(limits.formats)
    raise ImageError("E_NOT_IMAGE", f"this is {foreign_kind(data)}; none of the allowed formats ({allowed})")


def _is_raw(stored: TiffImagePlugin.TiffImageFile) -> bool:
    """Tell a RAW photo from a picture: its first page is a small preview of what lies in another directory."""
    tags = stored.tag_v2
    return _DNG_VERSION in tags or (_SUB_IFDS in tags and bool(int(tags.get(_NEW_SUBFILE_TYPE, 0)) & 1))


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
    if isinstance(stored, JpegImagePlugin.JpegImageFile):
        orientation = _read_orientation(stored)
        width, height = stored.size  # `draft` changes it
        if target_size_hw is not None:
            target_h, target_w = target_size_hw
            stored.draft(None, (target_h, target_w) if _swaps_sides(orientation) else (target_w, target_h))
        stored.load()
    else:
        stored.load()  # a PNG has its EXIF at the end, and a TIFF turns itself upright while loading
        orientation = _read_orientation(stored)
        width, height = stored.size
    displayed_size_hw = (width, height) if _swaps_sides(orientation) else (height, width)
    upright = _turn(to_rgb8(stored), orientation)
    upright.info = {}  # so that nobody reads the orientation again and turns the image twice
    return upright, displayed_size_hw


def turn_upright(image: Image.Image) -> DecodedImage:
    """Turn an image that Pillow holds as its EXIF says, and convert it to RGB; the image itself stays as it is.

    Raises:
        ImageError: the image has no pixels, or they cannot be read.
    """
    try:
        image.load()  # first: a PNG has its EXIF at the end, and a TIFF turns itself upright while loading
        upright = _turn(to_rgb8(image), _read_orientation(image))
    except Exception as error:  # noqa: BLE001  on damaged files the decoders raise almost any exception type
        raise ImageError("E_DECODE", f"the pixels cannot be read: {error}") from None
    if not all(upright.size):
        raise ImageError("E_DECODE", f"the image has a size of {upright.width}×{upright.height} pixels")
    return DecodedImage(upright, (upright.height, upright.width), sha256="", format="")


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _read_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; a damaged tag counts as 1, so that it does not cost the image."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  the EXIF parser raises anything on damaged tags
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _swaps_sides(orientation: int) -> bool:
    """Tell whether the displayed image has the stored height as its width."""
    return orientation >= 5


def _as_image_error(error: Exception, data: bytes, image_format: str) -> ImageError:
    text = str(error)
    if isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY_WORDS):
        return ImageError("E_MEMORY", f"not enough memory to decode this {image_format}")
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("E_BOMB", "the header asks for more pixels than the decoder allows")
    if any(word in text.lower() for word in _TRUNCATION_WORDS) or ends_early(data, image_format):
        return ImageError("E_TRUNCATED", f"the {image_format} ends before the image is complete ({len(data)} bytes)")
    detail = text if " " in text else f"{type(error).__name__} {text}".rstrip()
    return ImageError("E_DECODE", f"damaged or unsupported {image_format}: {detail}")
