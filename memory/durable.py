"""Files that survive a power loss: sync, atomic replacement, hashes, locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from memory.errors import MemoryLocked, MemoryStoreError, WriteFailed, printable, printable_path

# Hashing reads the disk and releases the interpreter lock; more threads than this only queue for the same disk.
HASH_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and sha256 (hexadecimal) of a file."""

    size: int
    sha256: str


def sync_file(path: Path) -> None:
    """Bring the content of a file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the entries of a folder (new files, renames) to the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        sync_file(folder)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing; what is later synced in it survives a power loss.

    Raises:
        OSError: it cannot be made, or is a file.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_with_folders(root: Path, names: Iterable[str]) -> None:
    """Sync files, whose paths are relative to ``root``, and every folder from theirs up to ``root``."""
    folders = {root}
    for name in names:
        path = root / name
        sync_file(path)
        folders.update(parent for parent in path.parents if parent.is_relative_to(root))
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        sync_folder(folder)


def draft_name(name: str) -> str:
    """Return the name under which ``replacing`` writes a file before the file takes its final name."""
    return f".{name}.part"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a new file beside its final path, then move it there in one step.

    A reader, or the next start after a power loss, sees the old file or the new one.

    Args:
        path: the final path; a file that is there is replaced.

    Yields:
        The path to write to, in the same folder. After an error it is deleted, and `path` is unchanged.

    Raises:
        WriteFailed: the disk refuses.
    """
    draft = path.with_name(draft_name(path.name))
    try:
        yield draft
        sync_file(draft)
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        raise write_failure(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a disk that refuses everything; the next write replaces it
            draft.unlink(missing_ok=True)


def write_all(stream: IO[bytes], data: bytes) -> None:
    """Write every byte to an unbuffered stream, which may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


# How libraries in Rust end the text of an error of the system.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def system_reason(error: Exception) -> str:
    """Return what the system says of a failed call, also where a library in Rust has wrapped it in its own words."""
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror, 300)
    wrapped = _SYSTEM_ERROR.search(str(error))
    return os.strerror(int(wrapped[1])) if wrapped else printable(str(error), 300)


def write_failure(path: Path, error: Exception, needed_bytes: int | None = None) -> WriteFailed:
    """Return the error to raise when a file or folder cannot be written: which, why, what is safe, how to go on."""
    reason = system_reason(error)
    message = f"{printable_path(path)}: cannot be written: {reason}"
    if reason == os.strerror(errno.ENOSPC):
        with contextlib.suppress(OSError):
            message += f". {shutil.disk_usage(path.parent).free / 2**20:.1f} MiB are free"
        if needed_bytes is not None:
            message += f" and {needed_bytes / 2**20:.1f} MiB are needed"
        message += ". What was there before is unchanged; make room, and give the same command again"
    return WriteFailed(message)


def record_file(path: Path | bytes) -> FileRecord:
    """Read a file and return its size and hash."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileRecord(stream.tell(), digest)


def file_sha256(path: Path | bytes) -> str:
    """Read a file and return its sha256 (hexadecimal)."""
    return record_file(path).sha256


def record_files(root: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Return size and hash of files, whose paths are relative to ``root``, in the order of their names."""
    ordered = sorted(names)
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        return dict(zip(ordered, pool.map(lambda name: record_file(root / name), ordered), strict=True))


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file, without waiting; say whether it worked.

    The kernel releases the lock when the file is closed or the process ends, however it ends.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


LOCK_NAME = "memory.lock"
# Between two attempts to take the lock. Writers hold it for seconds to hours, so a shorter pause gains nothing.
_POLL_SECONDS = 0.05


class WriterLock:
    """Context manager that holds the writer's lock of a memory directory.

    The lock file stays in the directory. It contains the id of the process that wrote last.

    Args:
        directory: the memory.
        wait_seconds: how long to wait for another writer.

    Raises:
        MemoryLocked: another writer holds the lock; the message names its process.
        MemoryStoreError: the directory cannot be written.
    """

    def __init__(self, directory: Path, *, wait_seconds: float = 1.0) -> None:
        """Prepare the lock; ``with`` takes it."""
        self._path = directory / LOCK_NAME
        self._wait_seconds = wait_seconds
        self._descriptor: int | None = None

    def __enter__(self) -> WriterLock:
        """Take the lock."""
        shown = printable_path(self._path.parent)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise MemoryStoreError(
                f"{shown} cannot be written ({error.strerror}). "
                "Give write permission, or copy the memory to a folder that you can write to."
            ) from error
        deadline = time.monotonic() + self._wait_seconds
        while not try_lock(descriptor):
            if time.monotonic() >= deadline:
                writer = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(descriptor)
                raise MemoryLocked(
                    f"{shown} is being written by process {writer}. Wait until that process has finished, or end it."
                )
            time.sleep(_POLL_SECONDS)
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # the id only helps the next writer to say who it waits for
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
