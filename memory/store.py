"""The LanceDB tables of a memory, read and written at the versions that MEMORY.json lists.

Lance calls no fsync and keeps no checksums, and its newest manifest decides what a table holds: a broken one keeps
every version from opening. So a read opens a *view*, a temporary folder of links to the recorded files alone, and
changes nothing in the memory. Every write brings its files to the disk, and returns a record of those that belong to
the new version, with hashes. Versions that MEMORY.json does not list are invisible to readers; the next writer deletes
them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from memory.durable import FileRecord, record_files, sync_with_folders, write_failure
from memory.errors import MemoryStoreError, printable
from memory.manifest import TableRecord

LanceObject: TypeAlias = Any
"""A table or connection of LanceDB, which ships no types."""

# Rows that are in memory at a time while tables are written or read: 4 MiB of vectors at D = 512.
BATCH_ROWS = 2048
# Ids are listed in the text of a condition; this many make it 40 kB long.
_IDS_PER_DELETE = 2000
# A file that Lance replaces in place and can do without; it belongs to no version.
_HINT_NAME = "latest_version_hint.json"
# Lance reports success also where the last part of a file did not reach the disk; by the ends of its files it shows.
_ENDS = {".lance": b"LANC", ".manifest": b"LANC", ".arrow": b"ARROW1"}
# Lance ends its messages with the place in its source that raised them, on the machine it was built on.
_SOURCE_PLACE = re.compile(r",?\s*\S*\.rs:\d+(:\d+)?\S*")
# Lance names the manifest of version v after this number minus v, so that the newest comes first.
_MANIFEST_NUMBER_OF_VERSION_0 = 2**64 - 1


class TableStore:
    """The tables in a memory directory.

    Args:
        directory: the memory; it exists.
    """

    def __init__(self, directory: Path) -> None:
        """Keep the directory; Lance is loaded at the first use."""
        self._directory = directory
        self._views: dict[tuple[str, int], Path] = {}

    def count(self, name: str, record: TableRecord) -> int:
        """Return the number of rows that Lance finds in a version of a table.

        Raises:
            RuntimeError, ValueError, OSError: Lance cannot open it.
        """
        try:
            return int(self._open(name, record).count_rows())
        except BaseException as error:
            if is_panic(error):
                raise RuntimeError(f"Lance panicked: {error}") from error
            raise

    def scan(self, name: str, record: TableRecord, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a version of a table in batches of at most ``BATCH_ROWS``, in stored order."""
        query = self._open(name, record).search().select(list(columns)).limit(None)
        yield from query.to_batches(BATCH_ROWS)

    def replace(
        self, name: str, record: TableRecord | None, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
    ) -> TableRecord | None:
        """Write a new version of a table that holds only these rows; return None when there are no rows.

        Args:
            name: the table.
            record: its current version, None for a new table.
            schema: columns of the batches.
            batches: the rows; they may come from a scan of the current version.
        """
        before = self.files(name)
        rows = iter(batches)
        first = next(rows, None)
        if first is None:
            return None
        source = _Source(chain([first], rows))
        reader = pa.RecordBatchReader.from_batches(schema, iter(source))
        mode = "create" if record is None else "overwrite"
        with self._writing(name, before, source):
            table = self._connect(self._directory).create_table(name, data=reader, mode=mode)
            return self._record(name, table, {}, before)

    def append(
        self, name: str, record: TableRecord, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
    ) -> TableRecord:
        """Write a new version of a table with further rows."""
        before = self.files(name)
        source = _Source(batches)
        with self._writing(name, before, source):
            table = self._open_latest(name, record)
            table.add(pa.RecordBatchReader.from_batches(schema, iter(source)))
            return self._record(name, table, record.files, before)

    def delete(self, name: str, record: TableRecord, column: str, ids: Sequence[str]) -> TableRecord:
        """Write new versions of a table without the rows whose ``column`` is one of these hexadecimal ids.

        Raises:
            ValueError: an id is not hexadecimal; it would be part of a condition.
        """
        unsafe = next((value for value in ids if not value or set(value) - set("0123456789abcdef")), None)
        if unsafe is not None:
            raise ValueError(f"{unsafe!r} is not a hexadecimal id; rows are deleted by id only")
        before = self.files(name)
        with self._writing(name, before, _Source(())):
            table = self._open_latest(name, record)
            for start in range(0, len(ids), _IDS_PER_DELETE):
                values = ", ".join(f"'{value}'" for value in ids[start : start + _IDS_PER_DELETE])
                table.delete(f"{column} IN ({values})")
            return self._record(name, table, record.files, before)

    def files(self, name: str) -> set[str]:
        """Return the paths, relative to the memory, of all files in the folder of a table, of any version.

        Raises:
            MemoryStoreError: the folder is a link; its files may be anybody's.
        """
        root = self.folder(name)
        if root.is_symlink():
            raise MemoryStoreError(
                f"{printable(str(root), 4096)} is a link. The tables of a memory are folders of its own: "
                "remove the link, or build the memory in a new folder."
            )
        return {
            os.path.relpath(os.path.join(parent, file), self._directory)
            for parent, _, files in os.walk(root)
            for file in files
            if file != _HINT_NAME
        }

    def sweep(self, names: Iterable[str], *kept: Mapping[str, TableRecord]) -> None:
        """Delete files of earlier versions and of writes that were killed; only for the holder of the writer lock.

        Args:
            names: the tables to sweep.
            kept: versions of tables whose files stay.
        """
        for name in names:
            recorded = {file for tables in kept if name in tables for file in tables[name].files}
            self.delete_files(self.files(name) - recorded)
            if not recorded and self.folder(name).exists():
                _remove_empty_folders(self.folder(name))

    def delete_files(self, files: Iterable[str]) -> None:
        """Delete files of tables, given relative to the memory."""
        # Manifests first: after a kill in between, Lance finds no manifest whose data is gone.
        for file in sorted(files, key=lambda file: (not file.endswith(".manifest"), file)):
            try:
                (self._directory / file).unlink(missing_ok=True)
            except OSError as error:
                raise write_failure(self._directory / file, error) from error

    def adopt(self, name: str, columns: Sequence[str]) -> TableRecord | None:
        """Return the newest version of a table that can be read whole and has these columns, with rows.

        For tables that no MEMORY.json vouches for; nothing is changed.
        """
        files = self.files(name)
        manifests = sorted((file for file in files if file.endswith(".manifest")), key=_manifest_version, reverse=True)
        for manifest in manifests:
            chosen = {file for file in files if not file.endswith(".manifest")} | {manifest}
            record = TableRecord(_manifest_version(manifest), 0, record_files(self._directory, chosen))
            try:
                found = self._open(name, record).schema.names
                rows = sum(len(batch) for batch in self.scan(name, record, columns)) if found == list(columns) else 0
            except Exception:  # noqa: BLE001  a broken version; Lance raises errors of many kinds
                continue
            except BaseException as error:
                if not is_panic(error):
                    raise
                continue
            if rows:
                return TableRecord(record.version, rows, record.files)
        return None

    def newer_manifests(self, name: str, record: TableRecord) -> list[str]:
        """Return the paths, relative to the memory, of Lance manifests that are newer than the recorded version."""
        return sorted(
            file
            for file in self.files(name) - set(record.files)
            if file.endswith(".manifest") and _manifest_version(file) > record.version
        )

    def _record(
        self, name: str, table: LanceObject, inherited: Mapping[str, FileRecord], before: set[str]
    ) -> TableRecord:
        """Bring the files of a new version to the disk, and return its record.

        Args:
            name: the table.
            table: open at the new version.
            inherited: files of the version before, which the new one continues to use.
            before: all files of the table before the write.
        """
        version = int(table.version)
        new = {
            file
            for file in self.files(name) - before
            if not file.endswith(".manifest") or _manifest_version(file) == version
        }
        sync_with_folders(self._directory, new)
        for file in new:
            if not has_its_end(self._directory / file):
                raise RuntimeError(
                    f"{Path(file).name} ends too early. Look for a full disk, or for a limit on the size of files"
                )
        shared = {file: record for file, record in inherited.items() if not file.endswith(".manifest")}
        files = {**shared, **record_files(self._directory, new)}
        return TableRecord(version, int(table.count_rows()), dict(sorted(files.items())))

    @contextmanager
    def _writing(self, name: str, before: set[str], source: _Source) -> Iterator[None]:
        """Delete the files of a write that fails, and say in a sentence why it failed."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(OSError):  # a disk that refuses everything; the next writer deletes them
                self.delete_files(self.files(name) - before)
            if source.error is not None:
                raise source.error from None
            if isinstance(error, (RuntimeError, OSError)) or is_panic(error):
                reason = error if isinstance(error, OSError) else RuntimeError(_SOURCE_PLACE.sub("", str(error)))
                raise write_failure(self.folder(name), reason, source.needed_bytes()) from error
            raise

    def _open(self, name: str, record: TableRecord) -> LanceObject:
        return self._connect(self._view(name, record)).open_table(name)

    def _view(self, name: str, record: TableRecord) -> Path:
        """Return a temporary folder that links to the recorded files alone; it lives as long as this object."""
        key = (name, record.version)
        if key not in self._views:
            view = Path(tempfile.mkdtemp(prefix="memory-view-"))
            weakref.finalize(self, shutil.rmtree, view, ignore_errors=True)
            for file in record.files:
                (view / file).parent.mkdir(parents=True, exist_ok=True)
                (view / file).symlink_to((self._directory / file).resolve())
            self._views[key] = view
        return self._views[key]

    def _open_latest(self, name: str, record: TableRecord) -> LanceObject:
        table = self._connect(self._directory).open_table(name)
        if table.version != record.version:
            raise MemoryStoreError(
                f"the table {name!r} is at version {table.version}, the memory at {record.version}; "
                "another program has written to its files. Let only this package write to them, and build again."
            )
        return table

    @staticmethod
    def _connect(directory: Path) -> LanceObject:
        import lancedb

        return lancedb.connect(directory)

    def folder(self, name: str) -> Path:
        """Return the folder of a table."""
        return self._directory / f"{name}.lance"


class _Source:
    """Batches for Lance, which replaces an error of their source by a RuntimeError of its own.

    Attributes:
        error: that the source raised.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self._bytes = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self._bytes += batch.nbytes
                yield batch
        except Exception as error:
            self.error = error
            raise

    def needed_bytes(self) -> int | None:
        """Read the rest, and return the size of all rows, about which Lance takes on the disk; None: unknown."""
        with contextlib.suppress(Exception):
            self._bytes += sum(batch.nbytes for batch in self._batches)
        return self._bytes or None


def is_panic(error: BaseException) -> bool:
    """Say whether Rust panicked; its exception derives from BaseException, and its class cannot be imported."""
    return type(error).__name__ in ("RustPanic", "PanicException")


def has_its_end(path: Path) -> bool:
    """Say whether a file of a table was written to its end."""
    end = _ENDS.get(path.suffix, b"")
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - len(end)))
        return not end or file.read() == end


def _manifest_version(file: str) -> int:
    """Return the version of a Lance manifest, 0 for a name of another form."""
    stem = Path(file).name.removesuffix(".manifest")
    return _MANIFEST_NUMBER_OF_VERSION_0 - int(stem) if stem.isdigit() else 0


def _remove_empty_folders(root: Path) -> None:
    """Delete the folders below and including ``root`` that hold no file but hints."""
    for parent, _, _ in os.walk(root, topdown=False):
        leftovers = [entry for entry in os.scandir(parent) if entry.name == _HINT_NAME]
        for entry in leftovers:
            os.unlink(entry.path)
        if not any(os.scandir(parent)):
            os.rmdir(parent)
