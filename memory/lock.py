"""One writer at a time: an advisory lock on a file of the memory."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from memory.errors import MemoryLocked, MemoryStoreError, printable_path

LOCK_NAME = "memory.lock"
_POLL_SECONDS = 0.05


class WriterLock:
    """Context manager that holds the writer's lock of a memory directory.

    The kernel gives the lock back when the process ends, however it ends. The file stays, with the number of the
    process that wrote last.

    Args:
        directory: the memory.
        wait_seconds: how long to wait for another writer.

    Raises:
        MemoryLocked: another writer holds the lock; names its process.
        MemoryStoreError: the directory cannot be written.
    """

    def __init__(self, directory: Path, *, wait_seconds: float = 1.0) -> None:
        """Prepare; ``with`` takes the lock."""
        self._path = directory / LOCK_NAME
        self._wait_seconds = wait_seconds
        self._descriptor: int | None = None

    def __enter__(self) -> WriterLock:
        """Take the lock."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise MemoryStoreError(
                f"{printable_path(self._path.parent)} cannot be written ({error.strerror}). "
                "Give write permission, or copy the memory to a place with it."
            ) from error
        deadline = time.monotonic() + self._wait_seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(descriptor)
                raise MemoryLocked(
                    f"{printable_path(self._path.parent)} is being written by process {holder}. "
                    "Wait until it has finished, or end it."
                )
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
