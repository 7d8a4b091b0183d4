"""The bytes of one regular file, read once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from recognizer.images.errors import ImageError

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_file_bytes(path: str | bytes | Path, *, max_bytes: int) -> bytes:
    """Read a regular file whole.

    The kind and size are asked of the opened file, so a file swapped for a pipe meanwhile cannot block the run.

    Args:
        path: the file; symbolic links are followed.
        max_bytes: more bytes than this are refused unread.

    Returns:
        The content, at least one byte.

    Raises:
        ImageError: E_NOT_FOUND, E_PERMISSION, E_NOT_FILE, E_READ, E_EMPTY or E_TOO_LARGE.
    """
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
