"""The errors of images.

ImageTypeError   what a caller gave as an image is of no type that can be one
ImageInputError  an input of a run cannot be listed: the run stops before any work
ImageError       one image cannot be used: it becomes one row with ``status: error``
"""

from __future__ import annotations

import re

from memory.errors import printable
from recognizer.errors import RecognizerError

_ADDRESS = re.compile(r"(?: at)? ?0x[0-9a-fA-F]+")
_ABSOLUTE_PATH = re.compile(r"(?<![\w.])/(?:[^\s/'\"]+/)+[^\s/'\"]*")
_REASON_LENGTH = 300


class ImageInputError(RecognizerError):
    """An input (folder, file list, glob or file) cannot be listed; the message says what to do."""


class ImageTypeError(RecognizerError, TypeError):
    """What was given as an image is neither a path, nor bytes, nor an image; the message names position and type."""


class ImageError(RecognizerError):
    """One image cannot be used.

    Attributes:
        code: a stable code, one of `IMAGE_ERROR_CODES`.
        reason: one printable line without memory addresses or absolute paths.
    """

    def __init__(self, code: str, reason: str) -> None:
        """Store the code and the cleaned reason."""
        self.code = code
        self.reason = printable_reason(reason)
        super().__init__(self.code, self.reason)

    def __str__(self) -> str:
        """Return code and reason in one line."""
        return f"{self.code}: {self.reason}"


IMAGE_ERROR_CODES = {
    "E_NOT_FOUND": "there is no file of that name (any more)",
    "E_PERMISSION": "no permission to read the file",
    "E_NOT_FILE": "a folder, pipe, socket or device, not a regular file",
    "E_READ": "the system failed to read the file",
    "E_EMPTY": "the file has no bytes",
    "E_TOO_LARGE": "the file has more bytes than images.max_file_bytes",
    "E_NOT_IMAGE": "the content matches no allowed format",
    "E_BOMB": "more pixels than images.max_pixels",
    "E_ASPECT": "longer and thinner than images.max_aspect_ratio",
    "E_TRUNCATED": "the file ends before the image is complete",
    "E_DECODE": "the file is damaged, or the decoder does not support it",
    "E_MEMORY": "the image does not fit into memory, or into images.max_memory_bytes",
    "E_TIMEOUT": "the image was not decoded within images.max_seconds",
    "E_WORKER": "the decoder crashed on this image",
    "E_OUTSIDE": "a file of boxes names a path outside of the folder of the images; nothing was opened",
    "E_BOX": "the box has no area, lies outside of the image, or is no box",
    "E_FRAME": "the box belongs to an image of another shape than the displayed one",
}


def printable_reason(text: str) -> str:
    """One printable line: no memory addresses, no absolute paths, no control characters, bounded length."""
    return printable(_ABSOLUTE_PATH.sub("(path)", _ADDRESS.sub("", text)), _REASON_LENGTH)
