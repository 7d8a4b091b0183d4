"""File lists: a text file that names one image a line."""

from __future__ import annotations

from recognizer.images.errors import ImageInputError
from recognizer.images.key import display_key


def read_file_list(list_path: bytes) -> list[bytes]:
    """Read the paths of a file list.

    Lines end in LF or CRLF; where the file holds a zero byte, paths end in zero bytes instead (``find -print0``), so
    that they may hold newlines. Blank lines are skipped, a UTF-8 byte order mark is dropped, nothing else is changed:
    file names are data.

    Args:
        list_path: the list.

    Returns:
        The paths as written, at least one.

    Raises:
        ImageInputError: the list cannot be read or names nothing.
    """
    shown = display_key(list_path)
    try:
        with open(list_path, "rb") as stream:
            content = stream.read().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ImageInputError(f"{shown}: the file list cannot be read: {error.strerror}") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ImageInputError(f"{shown}: the file list is UTF-16; save it as UTF-8")
    if b"\0" in content:
        paths = [path for path in content.split(b"\0") if path]
    else:
        paths = [line.removesuffix(b"\r") for line in content.split(b"\n") if line.strip()]
    if not paths:
        raise ImageInputError(f"{shown}: the file list names no image; write one path a line")
    return paths
