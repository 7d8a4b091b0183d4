"""The LanceDB tables of a memory, read and written at versions that the manifest vouches for.

Lance calls no fsync and keeps no checksums, and its newest manifest decides what a table holds. So every read names
the version it wants, every write reports the files that belong to the new version, with hashes, after bringing them to
the disk, and nothing a write leaves behind counts until MEMORY.json names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from memory.durable import FileRecord, record_files, sync_with_folders
from memory.errors import MemoryStoreError
from memory.manifest import TableRecord

LanceObject: TypeAlias = Any
"""A table or connection of LanceDB, which ships no types."""

BATCH_ROWS = 2048
_IDS_PER_DELETE = 2000
_HINT_NAME = "latest_version_hint.json"
_NEWEST = 2**64 - 1


class TableStore:
    """The tables in a memory directory.

    Args:
        directory: the memory; it exists.
    """

    def __init__(self, directory: Path) -> None:
        """Take the place; Lance is connected when it is used."""
        self._directory = directory

    def count(self, name: str, record: TableRecord) -> int:
        """Return the number of rows that Lance finds in a version of a table.

        Raises:
            RuntimeError, ValueError, OSError: Lance cannot open it.
        """
        try:
            return int(self._open(name, record).count_rows())
        except BaseException as error:
            if type(error).__name__ in ("RustPanic", "PanicException"):
                raise RuntimeError(f"Lance panicked: {error}") from error
            raise

    def scan(self, name: str, record: TableRecord, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a version of a table in batches of at most ``BATCH_ROWS``, in stored order."""
        query = self._open(name, record).search().select(list(columns)).limit(None)
        yield from query.to_batches(BATCH_ROWS)

    def replace(
        self, name: str, record: TableRecord | None, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
    ) -> TableRecord | None:
        """Write a new version of a table that holds these rows only; None when there are none.

        Args:
            name: the table.
            record: its current version, None when there is none.
            schema: columns of the batches.
            batches: the rows; they may be read from the current version.
        """
        before = self.files(name)
        rows = iter(batches)
        first = next(rows, None)
        if first is None:
            return None
        source = _Batches(chain([first], rows))
        reader = pa.RecordBatchReader.from_batches(schema, iter(source))
        mode = "create" if record is None else "overwrite"
        with source.errors_unwrapped():
            table = self._connect().create_table(name, data=reader, mode=mode)
        return self._vouch(name, table, {}, before)

    def append(
        self, name: str, record: TableRecord, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
    ) -> TableRecord:
        """Write a new version of a table with further rows."""
        before = self.files(name)
        source = _Batches(batches)
        with source.errors_unwrapped():
            table = self._open_latest(name, record)
            table.add(pa.RecordBatchReader.from_batches(schema, iter(source)))
        return self._vouch(name, table, record.files, before)

    def delete(self, name: str, record: TableRecord, column: str, ids: Sequence[str]) -> TableRecord:
        """Write new versions of a table without the rows whose ``column`` is one of these hexadecimal ids."""
        unsafe = next((value for value in ids if not value or set(value) - set("0123456789abcdef")), None)
        if unsafe is not None:
            raise ValueError(f"{unsafe!r} is no hexadecimal id; rows are deleted by id only")
        before = self.files(name)
        table = self._open_latest(name, record)
        for start in range(0, len(ids), _IDS_PER_DELETE):
            values = ", ".join(f"'{value}'" for value in ids[start : start + _IDS_PER_DELETE])
            table.delete(f"{column} IN ({values})")
        return self._vouch(name, table, record.files, before)

    def files(self, name: str) -> set[str]:
        """Return the paths, relative to the memory, of all files in a table's folder, whatever version they serve."""
        root = self._folder(name)
        return {
            os.path.relpath(os.path.join(parent, file), self._directory)
            for parent, _, files in os.walk(root)
            for file in files
            if file != _HINT_NAME
        }

    def sweep(self, tables: Mapping[str, TableRecord], names: Iterable[str]) -> None:
        """Delete the files that no vouched version needs: earlier versions and what a killed write left.

        Afterwards the vouched version of each table is its newest. Only for the holder of the writer's lock.
        """
        for name in names:
            kept = set(tables[name].files) if name in tables else set()
            unvouched = self.files(name) - kept
            for file in sorted(unvouched, key=lambda file: (not file.endswith(".manifest"), file)):
                (self._directory / file).unlink(missing_ok=True)
            folder = self._folder(name)
            if name not in tables and folder.exists():
                _remove_empty_folders(folder)

    def newer_manifests(self, name: str, record: TableRecord) -> list[str]:
        """Return the paths, relative to the memory, of Lance manifests that are newer than the vouched version."""
        return sorted(
            file
            for file in self.files(name) - set(record.files)
            if file.endswith(".manifest") and _manifest_version(file) > record.version
        )

    def _vouch(
        self, name: str, table: LanceObject, inherited: Mapping[str, FileRecord], before: set[str]
    ) -> TableRecord:
        version = int(table.version)
        new = {
            file
            for file in self.files(name) - before
            if not file.endswith(".manifest") or _manifest_version(file) == version
        }
        sync_with_folders(self._directory, new)
        kept = {file: record for file, record in inherited.items() if not file.endswith(".manifest")}
        files = {**kept, **record_files(self._directory, new)}
        return TableRecord(version, int(table.count_rows()), dict(sorted(files.items())))

    def _open(self, name: str, record: TableRecord) -> LanceObject:
        return self._connect().open_table(name, version=record.version)

    def _open_latest(self, name: str, record: TableRecord) -> LanceObject:
        table = self._connect().open_table(name)
        if table.version != record.version:
            raise MemoryStoreError(
                f"the table {name!r} is at version {table.version}, the memory at {record.version}; "
                "another program writes to its files. Leave the writing to this package, and build again."
            )
        return table

    def _connect(self) -> LanceObject:
        import lancedb

        return lancedb.connect(self._directory)

    def _folder(self, name: str) -> Path:
        return self._directory / f"{name}.lance"


class _Batches:
    """Batches on their way into Lance, which would wrap an error of their source beyond recognition."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def errors_unwrapped(self) -> Iterator[None]:
        """Raise the source's own error in place of the one that Lance makes of it."""
        try:
            yield
        except RuntimeError:
            if self._error is not None:
                raise self._error from None
            raise


def _manifest_version(file: str) -> int:
    """Return the version of a Lance manifest: its name is counted down from 2^64 - 1."""
    stem = Path(file).name.removesuffix(".manifest")
    return _NEWEST - int(stem) if stem.isdigit() else 0


def _remove_empty_folders(root: Path) -> None:
    for parent, _, _ in os.walk(root, topdown=False):
        leftovers = [entry for entry in os.scandir(parent) if entry.name == _HINT_NAME]
        for entry in leftovers:
            os.unlink(entry.path)
        if not any(os.scandir(parent)):
            os.rmdir(parent)
