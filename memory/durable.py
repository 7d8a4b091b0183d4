"""Files that survive a power loss: sync, atomic replacement, hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
