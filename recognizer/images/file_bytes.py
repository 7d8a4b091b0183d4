"""The bytes of one image file: read them, name a file that is not an image, and notice one that was cut short."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from recognizer.images.content import HEAD_BYTES, content_kind
from recognizer.images.errors import ImageError
from recognizer.images.remote import fetch, is_remote

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
RAW_PHOTO = "a RAW photo of a camera (export it as JPEG or TIFF)"
# Files that are often mixed in among images, by their first bytes.
_FOREIGN_SIGNATURES = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)
_KINDS = {
    "HEIC": "a HEIC photo (pip install pillow-heif decodes it, or convert it to JPEG)",
    "RAW": RAW_PHOTO,
    "video": "a video (save frames of it as images)",
}


def read_file_bytes(path: str | bytes | Path, *, max_bytes: int) -> bytes:
    """Read a regular file, or an object of a store, whole.

    Kind and size are checked on the open file, so a file that is swapped for a pipe in between cannot block the run.

    Args:
        path: the file, whose symbolic links are followed; or an address, see `recognizer.images.remote`.
        max_bytes: a file of more bytes is refused without being read.

    Returns:
        The content, at least one byte.

    Raises:
        ImageError: E_NOT_FOUND, E_PERMISSION, E_NOT_FILE, E_READ, E_EMPTY or E_TOO_LARGE.
    """
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise ImageError("E_READ", "the file cannot be read: its path holds half a surrogate pair") from None
    if is_remote(encoded):
        return fetch(encoded, max_bytes=max_bytes)
    try:
        descriptor = os.open(path, _READ_FLAGS)
        try:
            data = _read_regular(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ImageError("E_NOT_FOUND", "there is no such file") from None
    except PermissionError:
        raise ImageError("E_PERMISSION", "no permission to read this file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its path holds a zero byte"
        raise ImageError("E_READ", f"the file cannot be read: {reason}") from None
    if not data:
        raise ImageError("E_EMPTY", "the file has no bytes")
    return data


def _read_regular(descriptor: int, max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("E_NOT_FILE", f"this is {_kind(status.st_mode)}, not a regular file")
    if status.st_size > max_bytes:
        raise ImageError("E_TOO_LARGE", f"{status.st_size} bytes; images.max_file_bytes is {max_bytes}")
    with open(descriptor, "rb", buffering=0, closefd=False) as stream:
        return stream.read()


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def foreign_kind(data: bytes) -> str:
    """Name the kind of a file that is not an allowed image, for the reason shown to the user.

    Args:
        data: the content of the file, at least one byte.

    Returns:
        A short phrase such as ``a PDF document``.
    """
    for signature, kind in _FOREIGN_SIGNATURES:
        if data.startswith(signature):
            return kind
    if (content := content_kind(data[:HEAD_BYTES])) in _KINDS:
        return _KINDS[content]
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start):
        return "an SVG drawing (render it to PNG)"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "zero bytes only" if not any(data[:4096]) else _text_or_unknown(data[:512])


def _text_or_unknown(start: bytes) -> str:
    try:
        text = start.decode("utf-8", "strict" if len(start) < 512 else "ignore")
    except UnicodeDecodeError:
        return "a file of an unknown kind"
    readable = sum(c.isprintable() or c.isspace() for c in text)
    return "text" if readable == len(text) else "a file of an unknown kind"


def ends_early(data: bytes, image_format: str) -> bool:
    """Tell whether a file whose decoding failed lacks its end.

    Args:
        data: the content of the file.
        image_format: Pillow's name of the format.

    Returns:
        True if the end mark of the format is missing or its length field points past the end. False otherwise, and for
        formats that have neither.
    """
    if image_format in {"JPEG", "MPO"}:
        return b"\xff\xd9" not in data[-4096:]
    if image_format == "PNG":
        return b"IEND" not in data[-4096:]
    if image_format == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if image_format == "WEBP":
        return len(data) < 8 or int.from_bytes(data[4:8], "little") + 8 > len(data)
    if image_format == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if image_format == "AVIF":
        return _iso_boxes_end(data) > len(data)
    return False


def _iso_boxes_end(data: bytes) -> int:
    """Return the offset in bytes where the last top-level box of an ISO base media file ends by its size field."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:  # the real size follows in 64 bits
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:  # 0 means up to the end of the file; 2 to 7 are invalid
            return len(data)
        position += size
    return position
