"""A flat copy of what readers need from the tables, mapped into memory.

Loading LanceDB takes longer than reading a small memory, and its rows come in batches that must be copied together. So
each publication also writes the rows, sorted, as one Arrow file per table into the folder ``flat``, with a card,
FLAT.json, that says which tables they are copied from. Processes that map the same file share its pages. The tables
stay what counts: when the copy is missing, damaged or of other tables, readers use the tables.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from memory.durable import FileRecord, record_file, replacing
from memory.errors import WriteFailed
from memory.manifest import Manifest, TableRecord
from memory.sealed import seal, unseal
from memory.store import TableStore
from memory.tables import READ_COLUMNS, TABLES, schema

FLAT_FOLDER = "flat"
_CARD_NAME = "FLAT.json"


class FlatTables:
    """The flat copy of the tables of one manifest; it is read as a `TableStore` is."""

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        """Take the mapped tables, by name."""
        self._tables = dict(tables)

    def scan(self, name: str, _record: TableRecord, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table, sorted by id, in one batch unless texts take more than 2 GiB."""
        yield from self._tables[name].select(list(columns)).to_batches()


def write_flat(directory: Path, manifest: Manifest) -> None:
    """Copy the tables of a published manifest; only for the holder of the writer lock.

    A full disk leaves no copy, and readers use the tables.
    """
    folder, store = directory / FLAT_FOLDER, TableStore(directory)
    try:
        folder.mkdir(exist_ok=True)
        files = {
            name: asdict(_write(folder / f"{name}.arrow", _sorted(store, name, record, manifest.encoder.dim)))
            for name, record in manifest.tables.items()
        }
        with replacing(folder / _CARD_NAME) as draft:
            draft.write_bytes(seal({"tables": manifest.tables_digest(), "files": files}))
    except (OSError, WriteFailed):
        shutil.rmtree(folder, ignore_errors=True)


def read_flat(directory: Path, manifest: Manifest, names: Collection[str] = TABLES) -> FlatTables | None:
    """Map the flat copy of some of a manifest's tables; None when it is missing, damaged or of other tables.

    Only the files of these tables are read. They are hashed through the mapping, so that what was checked is what is
    read, also when another process replaces the files.
    """
    folder = directory / FLAT_FOLDER
    try:
        card = unseal((folder / _CARD_NAME).read_bytes())
        if card["tables"] != manifest.tables_digest():
            return None
        return FlatTables(
            {
                name: _map(folder / f"{name}.arrow", FileRecord(**card["files"][name]), record.rows)
                for name, record in manifest.tables.items()
                if name in names
            }
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _sorted(store: TableStore, name: str, record: TableRecord, dim: int) -> pa.Table:
    """Return the rows of a table in the order in which readers want them."""
    columns = READ_COLUMNS[name]
    empty = schema(name, dim).empty_table().select(columns)
    table = pa.concat_tables([empty, pa.Table.from_batches(store.scan(name, record, columns), empty.schema)])
    table = table.combine_chunks()
    ids = table.column("id").to_pylist()
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return table if order == list(range(len(ids))) else table.take(order).combine_chunks()


def _write(path: Path, table: pa.Table) -> FileRecord:
    with replacing(path) as draft:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return record_file(draft)


def _map(path: Path, expected: FileRecord, rows: int) -> pa.Table:
    """Return the rows of a file as views of its mapped pages.

    Raises:
        ValueError: it is not what was written.
    """
    source = pa.memory_map(str(path))
    content = source.read_buffer()
    if (source.size(), hashlib.sha256(content).hexdigest()) != (expected.size, expected.sha256):
        raise ValueError(f"{path} has changed")
    table = pa.ipc.open_file(content).read_all()
    table.validate(full=True)  # offsets that lead outside of the file would be read unchecked
    if table.num_rows != rows:
        raise ValueError(f"{path} has other rows than the table")
    return table
