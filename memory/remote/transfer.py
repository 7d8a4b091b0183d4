"""Moving the files of a memory between an object store and a folder.

A file of a table is stored under its path, where LanceDB itself finds it. Lance gives most files a name that nobody
uses twice; its manifests alone are named by the number of their version, so two writers that begin at the same version
would overwrite each other's. Manifests are therefore also stored under the hash of their content, which is where a
reader looks when the one at its path is another, and a writer copies its own to its path when it has won.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from memory.durable import FileRecord, write_failure
from memory.errors import MemoryDamaged, ObjectStoreError, printable
from memory.integrity import damaged_files
from memory.manifest import MANIFEST_NAME, REBUILD, Manifest
from memory.remote.objects import CONCURRENT, PART_BYTES, Objects
from memory.tables import TABLES

CONTENT_FOLDER: Final = "published"
"""Holds the objects that are named by the hash of their content."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Longer paths are not written by Lance, and some file systems refuse them.
_MOST_CHARACTERS = 200


def content_key(record: FileRecord) -> str:
    """Return the key of an object that is named by its content."""
    return f"{CONTENT_FOLDER}/{record.sha256}"


def is_rewritten(path: str) -> bool:
    """Say whether Lance may use the name of a file again for another content."""
    return path.endswith(".manifest")


def table_files(manifest: Manifest | None) -> dict[str, FileRecord]:
    """Return all files of the tables of a memory, by path; none where there is no memory."""
    if manifest is None:
        return {}
    return {path: record for table in manifest.tables.values() for path, record in table.files.items()}


def check_records(manifest: Manifest, shown: str) -> None:
    """Check a list of files that somebody else may have written, before anything is fetched.

    Raises:
        MemoryDamaged: a table, a path, a size or a hash is not one of a memory.
    """
    unknown = sorted(manifest.tables.keys() - set(TABLES))
    if unknown:
        raise MemoryDamaged(f"{shown}: {MANIFEST_NAME} lists the table {printable(unknown[0])!r}, which no memory has")
    check_paths(table_files(manifest), shown)


def check_paths(files: Mapping[str, FileRecord], shown: str) -> None:
    """Check paths, sizes and hashes that somebody else may have written.

    Raises:
        MemoryDamaged: one is not that of a file inside of the memory.
    """
    for path, record in files.items():
        if (
            {"", ".", ".."} & set(path.split("/"))
            or "\\" in path
            or not path.isprintable()
            or len(path) > _MOST_CHARACTERS
            or type(record.size) is not int
            or record.size < 0
            or not isinstance(record.sha256, str)
            or not _SHA256.fullmatch(record.sha256)
        ):
            raise MemoryDamaged(f"{shown}: {printable(path)!r} is not a file of a memory; nothing of it was fetched")


def fetch_tables(objects: Objects, files: Mapping[str, FileRecord], folder: Path) -> None:
    """Fetch files of tables into a folder.

    Args:
        objects: of the memory.
        files: checked records, by path.
        folder: new, and of this process alone.

    Raises:
        MemoryDamaged: an object is missing, shorter, or of another content.
        ObjectStoreError: the store fails, or the disk has too little room.
        WriteFailed: the disk refuses.
    """
    damaged = fetch(objects, {path: (path, record) for path, record in files.items()}, folder)
    again = {path: (content_key(files[path]), files[path]) for path in damaged if is_rewritten(path)}
    lost = sorted(set(damaged) - again.keys()) + fetch(objects, again, folder)
    if lost:
        more = f" (and {len(lost) - 1} more files)" if len(lost) > 1 else ""
        raise MemoryDamaged(
            f"{objects.address} is damaged: {lost[0]}{more} is missing, cut off or of another content. {REBUILD}."
        )


def fetch(objects: Objects, files: Mapping[str, tuple[str, FileRecord]], folder: Path) -> list[str]:
    """Fetch objects into a folder, part by part; never more of one than its record says.

    Args:
        objects: of the memory.
        files: key and record, by the path of the file to write.
        folder: new, and of this process alone; files of these paths are replaced.

    Returns:
        Paths that were not written: the object is missing, shorter, or of another content.
    """
    needed = sum(record.size for _, record in files.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ObjectStoreError(
            f"{objects.address}: {needed / 2**20:.0f} MiB are to be fetched, and {free / 2**20:.0f} MiB are free in "
            f"{folder}. Make room, or name another folder in XDG_CACHE_HOME"
        )
    parts = []
    for path, (key, record) in files.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.touch(mode=0o600, exist_ok=False)
        except OSError as error:
            raise write_failure(target, error) from error
        ends = range(0, record.size, PART_BYTES)
        parts += [(target, key, start, min(start + PART_BYTES, record.size)) for start in ends]
    with ThreadPoolExecutor(CONCURRENT) as pool:
        try:
            for _ in pool.map(lambda part: _fetch_part(objects, *part), parts):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    damaged = [path for path, (_, record) in files.items() if damaged_files(folder, {path: record})]
    for path in damaged:
        (folder / path).unlink()
    return damaged


def _fetch_part(objects: Objects, target: Path, key: str, start: int, end: int) -> None:
    """Write one part of a file to its place; a part that the object does not have is left out."""
    data = objects.get_part(key, start, end)
    if data is None:
        return
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.pwrite(descriptor, data, start) != len(data):
                raise OSError("the disk took a part only")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_failure(target, error, end - start) from error


def upload(objects: Objects, folder: Path, files: Iterable[tuple[str, str]]) -> None:
    """Write files of a folder to the store.

    Args:
        objects: of the memory.
        folder: holds the files.
        files: key and path of each.
    """
    with ThreadPoolExecutor(CONCURRENT) as pool:
        try:
            for _ in pool.map(lambda file: objects.put(file[0], folder / file[1]), files):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
