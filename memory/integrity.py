"""Opening a memory: check that its files are those that MEMORY.json lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memory.durable import HASH_THREADS, FileRecord, record_file
from memory.errors import MemoryDamaged, MemoryStoreError, printable, printable_path
from memory.manifest import REBUILD, Manifest, read_manifest
from memory.store import TableStore, has_its_end

# A build takes longer than an opening, so even two attempts in a row that meet a new version are rare.
_ATTEMPTS = 5


# Larger files are not read when a memory is opened, which would take seconds: their size and their end are looked at.
# They are hashed before something reads them, and by `verify`.
_HASHED_AT_OPENING = 4 * 2**20


def open_checked(directory: Path, *, whole: bool = False) -> Manifest:
    """Read the manifest of a memory, and check the files it lists; Lance is not loaded for it.

    When a writer publishes a new version during the check, the check starts again with that version. Nothing in the
    directory is changed.

    Args:
        directory: the memory.
        whole: hash large files, too.

    Raises:
        MemoryNotFound, SchemaTooNew: as for ``read_manifest``.
        MemoryDamaged: a listed file is missing or changed.
        MemoryStoreError: it is written again and again meanwhile.
    """
    for attempt in range(_ATTEMPTS):
        manifest = read_manifest(directory)
        try:
            check_files(directory, manifest, manifest.tables, whole=whole)
        except MemoryDamaged:
            if attempt + 1 < _ATTEMPTS and read_manifest(directory) != manifest:
                continue
            raise
        return manifest
    raise MemoryStoreError(
        f"{printable_path(directory)} was rewritten {_ATTEMPTS} times while it was opened. "
        "Open it when the other program has finished."
    )


def damaged_files(directory: Path, files: Mapping[str, FileRecord], *, whole: bool = True) -> list[str]:
    """Return one line for each file that is missing or changed: its name and what is wrong with it.

    Args:
        directory: the memory.
        files: by path relative to it.
        whole: hash large files, too.
    """
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        reasons = pool.map(lambda item: _damage(directory / item[0], item[1], whole), files.items())
        return [f"{name} {reason}" for name, reason in zip(files, reasons, strict=True) if reason]


def _damage(path: Path, record: FileRecord, whole: bool) -> str | None:
    try:
        size = path.stat().st_size
        if size != record.size:
            return f"has {size} bytes instead of {record.size}"
        if size > _HASHED_AT_OPENING and not whole:
            return None if has_its_end(path) else "does not hold what was written"
        return None if record_file(path) == record else "does not hold what was written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def check_files(directory: Path, manifest: Manifest, names: Collection[str], *, whole: bool) -> None:
    """Check the files of some tables.

    Raises:
        MemoryDamaged: one is missing or changed.
    """
    tables = [table for name, table in manifest.tables.items() if name in names]
    files = {name: record for table in tables for name, record in table.files.items()}
    damage = damaged_files(directory, files, whole=whole)
    if damage:
        more = f" (and {len(damage) - 1} more files)" if len(damage) > 1 else ""
        raise MemoryDamaged(f"{printable_path(directory)} is damaged: {damage[0]}{more}. {REBUILD}.")


def check_rows(directory: Path, manifest: Manifest) -> None:
    """Have Lance count the rows of each table, whose files are intact.

    Raises:
        MemoryDamaged: a table has another number of rows than the manifest says, or Lance cannot open it.
    """
    store = TableStore(directory)
    for name, table in manifest.tables.items():
        try:
            rows = store.count(name, table)
        except (RuntimeError, ValueError, OSError) as error:
            raise MemoryDamaged(
                f"{printable_path(directory)} is damaged: Lance cannot open the table {name!r} "
                f"({printable(str(error), 200)}). {REBUILD}."
            ) from error
        if rows != table.rows:
            raise MemoryDamaged(
                f"{printable_path(directory)} is damaged: the table {name!r} has {rows} rows instead of "
                f"{table.rows}. {REBUILD}."
            )
