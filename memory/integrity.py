"""Opening a memory: check that its files are those that MEMORY.json lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memory.durable import HASH_THREADS, FileRecord, WriterLock, record_file
from memory.errors import MemoryDamaged, MemoryStoreError, printable, printable_path
from memory.manifest import REBUILD, Manifest, TableRecord, read_manifest
from memory.store import TableStore

QUARANTINE = "_quarantine"
# A build takes longer than an opening, so even two attempts in a row that meet a new version are rare.
_ATTEMPTS = 5


def open_checked(directory: Path) -> Manifest:
    """Read the manifest of a memory, and check every file it lists.

    When a writer publishes a new version during the check, the check starts again with that version.

    Raises:
        MemoryNotFound, SchemaTooNew: as for ``read_manifest``.
        MemoryDamaged: a listed file is missing or changed, or a table has another number of rows.
        MemoryStoreError: a broken file keeps Lance from opening a table, and cannot be moved away.
    """
    for attempt in range(_ATTEMPTS):
        manifest = read_manifest(directory)
        try:
            _check(directory, manifest)
        except MemoryDamaged:
            if attempt + 1 < _ATTEMPTS and read_manifest(directory) != manifest:
                continue
            raise
        return manifest
    raise MemoryStoreError(
        f"{printable_path(directory)} was rewritten {_ATTEMPTS} times while it was opened. "
        "Open it when the other program has finished."
    )


def intact_tables(directory: Path, manifest: Manifest) -> dict[str, TableRecord]:
    """Return the tables of a manifest whose files are all unchanged."""
    return {name: table for name, table in manifest.tables.items() if not damaged_files(directory, table.files)}


def damaged_files(directory: Path, files: Mapping[str, FileRecord]) -> list[str]:
    """Return one line for each file that is missing or changed: its name and what is wrong with it."""
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        reasons = pool.map(lambda item: _damage(directory / item[0], item[1]), files.items())
        return [f"{name} {reason}" for name, reason in zip(files, reasons, strict=True) if reason]


def _damage(path: Path, record: FileRecord) -> str | None:
    try:
        size = path.stat().st_size
        if size != record.size:
            return f"has {size} bytes instead of {record.size}"
        return None if record_file(path) == record else "does not hold what was written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _check(directory: Path, manifest: Manifest) -> None:
    files = {name: record for table in manifest.tables.values() for name, record in table.files.items()}
    damage = damaged_files(directory, files)
    if damage:
        more = f" (and {len(damage) - 1} more files)" if len(damage) > 1 else ""
        raise MemoryDamaged(f"{printable_path(directory)} is damaged: {damage[0]}{more}. {REBUILD}.")
    store = TableStore(directory)
    for name, table in manifest.tables.items():
        rows = _count(directory, store, name, table)
        if rows != table.rows:
            raise MemoryDamaged(
                f"{printable_path(directory)} is damaged: the table {name!r} has {rows} rows instead of "
                f"{table.rows}. {REBUILD}."
            )


def _count(directory: Path, store: TableStore, name: str, table: TableRecord) -> int:
    """Count rows; move away a broken manifest of a newer, unpublished version, which keeps Lance from opening."""
    try:
        return store.count(name, table)
    except (RuntimeError, ValueError, OSError) as error:
        suspects = store.newer_manifests(name, table)
        if not suspects:
            raise MemoryDamaged(
                f"{printable_path(directory)} is damaged: Lance cannot open the table {name!r} "
                f"({printable(str(error), 200)}). {REBUILD}."
            ) from error
    _quarantine(directory, suspects)
    return store.count(name, table)


def _quarantine(directory: Path, files: Iterable[str]) -> None:
    """Move files to the folder ``_quarantine``, under their paths with hyphens for slashes."""
    with WriterLock(directory):
        folder = directory / QUARANTINE
        folder.mkdir(exist_ok=True)
        for file in files:
            target = folder / file.replace("/", "-")
            number = 0
            while target.exists():
                number += 1
                target = folder / f"{file.replace('/', '-')}.{number}"
            (directory / file).rename(target)
