"""Folders of the mirrors: links between them, and a lock that names the address."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from memory.durable import FileRecord, WriterLock, write_failure
from memory.errors import MemoryLocked, printable_path
from memory.integrity import damaged_files
from memory.remote.address import Address


class AddressLock(WriterLock):
    """A lock whose refusal names an address, and not the folder of the cache.

    Args:
        folder: holds the lock; it exists.
        address: of the memory.
        wait_seconds: how long to wait for another process.
    """

    def __init__(self, folder: Path, address: Address, *, wait_seconds: float = 1.0) -> None:
        """Prepare the lock; ``with`` takes it."""
        super().__init__(folder, wait_seconds=wait_seconds)
        self._shown, self._address = printable_path(folder), str(address)

    def __enter__(self) -> WriterLock:
        """Take the lock."""
        try:
            return super().__enter__()
        except MemoryLocked as error:
            raise MemoryLocked(str(error).replace(self._shown, f"on this machine, {self._address}")) from None


def link_files(source: Path | None, target: Path, files: Mapping[str, FileRecord], *, checked: bool) -> set[str]:
    """Link files of one directory into another one.

    Args:
        source: None: there are no files.
        target: the other directory.
        files: which, by path.
        checked: whether the content is compared, and not the size alone.

    Returns:
        Paths of those that are linked now; the others are missing or changed.
    """
    if source is None:
        return set()
    found = {path: record for path, record in files.items() if _has_size(source / path, record.size)}
    if checked:
        found = {path: record for path, record in found.items() if not damaged_files(source, {path: record})}
    for path in found:
        _link(source / path, target / path)
    return set(found)


def link_whole(source: Path | None, target: Path, *names: str) -> None:
    """Link files, and all files in folders, of one directory into another; those that are missing are left out."""
    for name in names if source is not None else ():
        assert source is not None
        for path in _files_at(source / name):
            _link(path, target / path.relative_to(source))


def _files_at(path: Path) -> Iterable[Path]:
    """Yield a file, or the files in a folder, without links and without half-written ones."""
    entries = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    for entry in sorted(entries):
        if _has_size(entry, None) and not entry.name.endswith(".part"):
            yield entry


def _has_size(path: Path, size: int | None) -> bool:
    """Say whether a path is a file, not a link, of a size; None: of any."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and size in (None, found.st_size)


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target, follow_symlinks=False)
    except OSError as error:
        raise write_failure(target, error) from error
