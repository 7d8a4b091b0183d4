"""How large an image may be, and in which formats."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"]
"""Formats that can be decoded. EPS and PDF are left out on purpose: their decoders start other programs."""


class ImageLimits(BaseModel):
    """Limits checked on the file and its header, before any pixel is decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int = Field(
        default=89_478_485,
        gt=0,
        description="Width times height of the stored image, in pixels. The default is the number at which Pillow "
        "begins to warn. Decoding takes up to 16 bytes per pixel.",
    )
    max_aspect_ratio: float = Field(default=100.0, ge=1, description="Longer side divided by shorter side.")
    max_file_bytes: int = Field(default=512 * 2**20, gt=0, description="Size of the file, in bytes.")
    formats: tuple[ImageFormat, ...] = Field(
        default=get_args(ImageFormat), min_length=1, description="Formats that may be decoded, recognised by content."
    )
