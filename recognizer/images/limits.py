"""How large an image may be, and in which formats."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF"]
"""Formats that can be decoded; HEIF, that of HEIC photos, where pillow-heif is installed.

EPS and PDF are left out on purpose: their decoders start other programs.
"""


class ImageLimits(BaseModel):
    """Limits checked on the file and its header, before any pixel is decoded, and two on the process that decodes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int = Field(
        default=89_478_485,
        gt=0,
        description="Width times height of the stored image, in pixels. The default is the number at which Pillow "
        "begins to warn. Decoding takes up to 16 bytes per pixel.",
    )
    max_aspect_ratio: float = Field(default=100.0, ge=1, description="Longer side divided by shorter side.")
    max_file_bytes: int = Field(
        default=128 * 2**20,
        gt=0,
        description="Size of the file, in bytes. The default holds 44 megapixels without compression, and any JPEG of "
        "`max_pixels`. Decoders read metadata byte by byte, so a larger file may also take longer.",
    )
    max_seconds: float = Field(
        default=30.0, gt=0, description="Wall time of reading and decoding in a worker process, in seconds."
    )
    max_memory_bytes: int = Field(
        default=2 * 2**30,
        gt=0,
        description="Memory that a worker process may allocate for one image, in bytes; on Linux only. The default is "
        "enough for `max_pixels` at 16 bytes per pixel and the file.",
    )
    formats: tuple[ImageFormat, ...] = Field(
        default=get_args(ImageFormat), min_length=1, description="Formats that may be decoded, recognised by content."
    )
