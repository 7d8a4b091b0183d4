"""What a file is, by its first bytes: an image, a HEIC photo, a RAW photo or a video."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Literal

HEAD_BYTES = 512
"""Bytes that `content_kind` looks at; the lists of brands of ISO files are shorter."""

ContentKind = Literal["image", "HEIC", "RAW", "video"]

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_IMAGE_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"\xff\x4f\xff\x51",  # a bare JPEG 2000 codestream
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    *TIFF_SIGNATURES,
)
# Two letters are too little to tell these from text, so the fields after them count too.
_LOOSE_IMAGES = (
    re.compile(rb"RIFF....WEBP", re.DOTALL),
    re.compile(rb"BM.{4}.{8}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),  # BMP, by the sizes of its header
    re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s"),
)
_AVIF_BRANDS = frozenset([b"avif", b"avis"])
_HEIC_BRANDS = frozenset([b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"])
# Makers whose RAW files are not TIFF: Canon CR2 and CR3, Fujifilm, Olympus, Panasonic, Sigma, Minolta.
_RAW = re.compile(rb"II\*\0....CR|....ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM", re.DOTALL)
_VIDEO = re.compile(rb"RIFF....AVI |\x1aE\xdf\xa3|\0\0\x01\xba|FLV\x01|0&\xb2u\x8ef\xcf\x11", re.DOTALL)
_AUDIO_BRANDS = frozenset([b"M4A ", b"M4B ", b"M4P "])


def content_kind(head: bytes) -> ContentKind | None:
    """Recognise a file by its first `HEAD_BYTES` bytes; None where it is something else.

    A RAW photo in a plain TIFF container (DNG, NEF, ARW) counts as an image here: only its tags tell.
    """
    if _RAW.match(head):
        return "RAW"
    if head.startswith(_IMAGE_SIGNATURES) or any(pattern.match(head) for pattern in _LOOSE_IMAGES):
        return "image"
    if brands := _iso_brands(head):
        if _AVIF_BRANDS.intersection(brands):
            return "image"
        if _HEIC_BRANDS.intersection(brands):
            return "HEIC"
        return None if brands[0] in _AUDIO_BRANDS else "video"
    return "video" if _VIDEO.match(head) else None


def decodes_heic() -> bool:
    """Tell whether HEIC photos can be decoded here: whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def _iso_brands(head: bytes) -> list[bytes]:
    """The brands of an ISO base media file, the major one first; empty where it is none."""
    if head[4:8] != b"ftyp":
        return []
    compatible = head[16 : int.from_bytes(head[:4], "big")]
    return [head[8:12], *(compatible[start : start + 4] for start in range(0, len(compatible), 4))]
