"""Files that survive a power loss: sync, atomic replacement, hashes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from memory.errors import MemoryLocked, MemoryStoreError, WriteFailed, printable_path

_HASH_THREADS = min(8, os.cpu_count() or 1)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and sha256 (hexadecimal) of a file."""

    size: int
    sha256: str


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_with_folders(root: Path, names: Iterable[str]) -> None:
    """Sync files given relative to ``root``, and every folder between them and ``root``."""
    folders = {root}
    for name in names:
        path = root / name
        sync(path)
        folders.update(parent for parent in path.parents if parent.is_relative_to(root))
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        sync(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file: a reader, or the next start after a power loss, sees the old content or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


def record_file(path: Path) -> FileRecord:
    """Read a file and return its size and hash."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return FileRecord(size, digest.hexdigest())


def record_files(root: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Return size and hash of files given relative to ``root``, in the order of their names."""
    ordered = sorted(names)
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return dict(zip(ordered, pool.map(lambda name: record_file(root / name), ordered), strict=True))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its final place, then put it there durably.

    Args:
        path: the final place, replaced if there is a file.

    Yields:
        The path to write to, in the same folder. On an error it is deleted and `path` stays as it was.

    Raises:
        WriteFailed: the disk refuses.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        with open(draft, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        raise WriteFailed(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
