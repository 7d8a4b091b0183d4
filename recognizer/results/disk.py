"""Writing to a disk that may be full, and to a file that another run may hold."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

from memory.durable import make_folder, try_lock
from recognizer.results.errors import OutputUnusable


def open_locked(path: Path) -> IO[bytes]:
    """Open a file for reading and writing, unbuffered, as its only writer; its content stays.

    Raises:
        OutputUnusable: it cannot be opened or another process holds it.
    """
    try:
        make_folder(path.parent)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            stream = open(descriptor, "rb+", buffering=0)  # noqa: SIM115  the caller closes it
            is_ours = True
            with contextlib.suppress(OSError):  # a file system without locks
                is_ours = try_lock(descriptor)
            if not is_ours:
                stream.close()
                raise OutputUnusable(f"{path}: another run is writing this file; wait for it or stop it")
            if _is_at(descriptor, path):
                return stream
            stream.close()  # between open and lock, another process deleted or replaced it
    except OSError as error:
        raise OutputUnusable(f"{path}: cannot be written: {error.strerror}; choose another --output") from error


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def require_writable(path: Path) -> None:
    """Refuse a path that cannot be written, or that another process is writing; no new file remains.

    Raises:
        OutputUnusable: it cannot be written.
    """
    existed = path.exists()
    with open_locked(path):
        # Deleted under the lock, or it could be the file that another run has just begun to write.
        if not existed and not path.stat().st_size:
            path.unlink()


def sync_stream(stream: IO[bytes], path: Path) -> None:
    """Bring what was written to the disk.

    Raises:
        OutputUnusable: the disk refuses.
    """
    try:
        os.fsync(stream.fileno())
    except OSError as error:
        raise disk_error(path, error, 0) from error


def disk_error(path: Path, error: OSError, size: int) -> OutputUnusable:
    """Say which file could not be written, why, how much was to be written, what is safe and how to continue.

    Args:
        path: the file.
        error: of the system.
        size: bytes that were to be written; 0: unknown.
    """
    wanted = f"writing {size} bytes failed" if size else "cannot be written"
    return OutputUnusable(
        f"{path}: {wanted}: {error.strerror or error}; the rows written before are kept: free some space, then repeat "
        "the command to resume"
    )
