"""A copy of what readers need from the tables, in files that are mapped into memory.

Loading LanceDB takes longer than reading a small memory, and a large one need not be read whole. So each write of the
tables also appends the rows to one Arrow stream per table, and to one file of fp16 rows per column of vectors, in the
folder ``flat``. Its card, FLAT.json, says what the copy is for the published tables and for those before: the same
files, of which the newer copy has more rows, or more dead ones. The card is written before MEMORY.json, so a kill at
any time leaves a copy. The tables stay what counts: when the copy is missing, damaged or of other tables, readers use
the tables.

An Arrow stream is checked whole when it is opened, as texts and ids are a small part; vectors are checked in blocks as
they are read (see `memory.mapped`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from memory.columns import MemoryColumns, TableColumns
from memory.durable import replacing, sync_folder
from memory.errors import MemoryDamaged, WriteFailed
from memory.halves import Halves
from memory.integrity import check_files
from memory.manifest import Manifest, TableRecord
from memory.mapped import BLOCK_BYTES, BlockRecord, BlockWriter, MappedBlocks
from memory.sealed import seal, unseal
from memory.store import BATCH_ROWS, TableStore
from memory.tables import FLAT_COLUMNS, OWNER_COLUMNS, TABLES, VECTOR_NAMES, flat_schema, halves_of, schema
from memory.vectors import MemoryVectors

FLAT_FOLDER = "flat"
_CARD_NAME = "FLAT.json"
_FORMAT = 2
# A table is written anew without its dead rows when they are more than this share: until then they cost disk, and no
# time but that of skipping them.
_MOST_DEAD = 0.1


@dataclass(frozen=True, slots=True)
class TableCopy:
    """The copy of one table.

    Attributes:
        generation: grows when the files are written anew.
        rows: stored rows, dead ones included.
        dead: ascending rows that readers do not see.
        files: by column of vectors, and "texts" for all others.
    """

    generation: int
    rows: int
    dead: tuple[int, ...]
    files: Mapping[str, BlockRecord]

    @classmethod
    def new(cls, name: str, generation: int) -> TableCopy:
        """Return the copy of a table without rows, whose files do not exist yet."""
        endings = {"texts": "arrow"} | {column: f"{column}.f16" for column in VECTOR_NAMES[name]}
        files = {part: BlockRecord(f"{name}.{generation}.{end}", 0, ()) for part, end in endings.items()}
        return cls(generation, 0, (), files)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TableCopy:
        """Make a copy of its JSON object; KeyError, TypeError or ValueError where it is of another shape."""
        files = {part: BlockRecord.from_json(file) for part, file in value["files"].items()}
        return cls(int(value["generation"]), int(value["rows"]), tuple(map(int, value["dead"])), files)


Copies = Mapping[str, TableCopy]
"""By table."""


def read_flat(directory: Path, manifest: Manifest, names: Collection[str] = TABLES) -> MemoryColumns | None:
    """Map the flat copy of some of a manifest's tables; None when it is missing, damaged or of other tables.

    Only the files of these tables are opened. Vectors are not read.
    """
    try:
        copies = _read_card(directory)[manifest.tables_digest()]
        return _mapped(directory / FLAT_FOLDER, manifest, copies, names)
    except (OSError, ValueError, KeyError, TypeError, MemoryDamaged, pa.ArrowException):
        return None


def stored_columns(directory: Path, manifest: Manifest, names: Collection[str] = TABLES) -> MemoryColumns:
    """Return the columns of some tables, from the flat copy or, where it cannot be used, from the tables.

    Raises:
        MemoryDamaged: a file of the tables has changed.
        RuntimeError, ValueError, OSError: they cannot be read, or have other rows than their records say.
    """
    columns = read_flat(directory, manifest, names)
    return columns if columns is not None else checked_tables(directory, manifest, names)


def stored_vectors(directory: Path, manifest: Manifest) -> MemoryVectors:
    """Return the vectors of a memory; errors are those of ``stored_columns``.

    A small memory is read whole here, so damage of its copy shows here, and the tables are read. In a large one it shows
    where the vectors are used.
    """
    columns = read_flat(directory, manifest)
    if columns is not None:
        with contextlib.suppress(MemoryDamaged):
            return columns.vectors()
    return checked_tables(directory, manifest).vectors()


def checked_tables(directory: Path, manifest: Manifest, names: Collection[str] = TABLES) -> MemoryColumns:
    """Check the files of tables, and read these into memory; errors are those of ``stored_columns``."""
    check_files(directory, manifest, names, whole=True)
    store, dim = TableStore(directory), manifest.encoder.dim
    return MemoryColumns({name: _columns_of_table(store, name, manifest.tables.get(name), dim) for name in names})


def check_flat(directory: Path, manifest: Manifest) -> str | None:
    """Check every block of the flat copy; return what is wrong with it, None where nothing is.

    Raises:
        KeyError: there is no copy of these tables.
    """
    try:
        copies = _read_card(directory)[manifest.tables_digest()]
    except (OSError, ValueError, TypeError) as error:
        raise KeyError("no copy") from error
    try:
        for copy in copies.values():
            for record in copy.files.values():
                MappedBlocks(directory / FLAT_FOLDER, record).check()
    except (OSError, ValueError, MemoryDamaged) as error:
        return str(error)
    return None if read_flat(directory, manifest) is not None else "it cannot be read"


def columns_of_tables(store: TableStore, tables: Mapping[str, TableRecord], dim: int) -> MemoryColumns:
    """Read tables into memory.

    Raises:
        ValueError: a table has another number of rows than its record says.
    """
    return MemoryColumns({name: _columns_of_table(store, name, tables.get(name), dim) for name in TABLES})


def same_rows(directory: Path, name: str, record: TableRecord, columns: MemoryColumns) -> bool:
    """Say whether the live rows of a table's copy are the rows of the table, to the last bit; reads both in parts."""
    own = columns.tables[name]
    live, start = own.live, 0
    for batch in TableStore(directory).scan(name, record, schema(name, 1).names):
        places = live[start : start + batch.num_rows]
        start += batch.num_rows
        rows = _flat_batch(name, batch).to_pylist()
        if len(places) != len(rows) or [own.texts.slice(p, 1).to_pylist()[0] for p in places.tolist()] != rows:
            return False
        for column in VECTOR_NAMES[name]:
            if not np.array_equal(own.halves[column][places], halves_of(batch.column(column))):
                return False
    return start == len(live)


class FlatWriter:
    """Writes the flat copy beside the tables; only for the holder of the writer lock.

    A disk that refuses leaves no copy of the new tables, and readers use the tables.

    Args:
        directory: the memory.
        dim: dimension D.
        manifest: the published one, from whose copy to go on; None: from none.
    """

    def __init__(self, directory: Path, dim: int, manifest: Manifest | None) -> None:
        """Read the card; files are opened at the first row."""
        self._folder = directory / FLAT_FOLDER
        self._dim = dim
        self._digest = None if manifest is None else manifest.tables_digest()
        self._published: Copies | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._published = _read_card(directory)[self._digest or ""]
            _mapped(self._folder, manifest, self._published, ()) if manifest is not None else None
        self._copies: dict[str, TableCopy] = dict(self._published or {})
        self._writers: dict[str, dict[str, BlockWriter]] = {}
        self._failed = False

    @property
    def has_copy(self) -> bool:
        """Whether there is a copy of the published tables to go on from."""
        return self._published is not None

    def restart(self, name: str) -> None:
        """Begin a table anew, without rows."""
        earlier = [copy.generation for copies in _all_copies(self._folder.parent) for copy in copies.values()]
        self._copies[name] = TableCopy.new(name, 1 + max(earlier, default=0))

    def drop(self, name: str) -> None:
        """Leave a table out."""
        self._copies.pop(name, None)

    def copying(self, name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield batches of a table, in its schema, and append them to the copy."""
        for batch in batches:
            self._guarded(partial(self._append, name, batch))
            yield batch

    def kill(self, name: str, rows: NDArray[np.int64]) -> None:
        """Mark stored rows of a table as dead."""
        copy = self._copies.get(name)
        if copy is None:
            return
        self._copies[name] = replace(copy, dead=tuple(sorted({*copy.dead, *rows.tolist()})))

    def finish(self, manifest: Manifest) -> None:
        """Bring the copy to the disk, and say that it is that of the tables of a manifest, not yet published."""

        def write() -> None:
            for name in list(self._copies):
                if name not in manifest.tables:
                    self.drop(name)
            for name, writers in self._writers.items():
                if name in self._copies:
                    files = {part: writer.finish() for part, writer in writers.items()}
                    self._copies[name] = replace(self._copies[name], files=files)
            for name, copy in self._copies.items():
                if len(copy.dead) > _MOST_DEAD * copy.rows:
                    self._copies[name] = self._compacted(name, copy)
            sync_folder(self._folder)
            copies = {manifest.tables_digest(): dict(self._copies)}
            if self._published is not None and self._digest is not None:
                copies[self._digest] = dict(self._published)
            self._write_card(copies)

        if self._copies.keys() >= manifest.tables.keys():
            self._guarded(write)

    def sweep(self) -> None:
        """Delete the files that no copy uses."""
        used = {
            record.file
            for copies in _all_copies(self._folder.parent)
            for c in copies.values()
            for record in c.files.values()
        }
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in used | {_CARD_NAME}:
                    path.unlink()
            if not used:
                shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Leave the files as they were."""
        for writers in self._writers.values():
            for writer in writers.values():
                writer.abandon()
        self._writers = {}
        if not any(_all_copies(self._folder.parent)):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _guarded(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except (OSError, WriteFailed):
            self._failed = True
            self.abandon()

    def _append(self, name: str, batch: pa.RecordBatch) -> None:
        copy = self._copies.get(name)
        if copy is None:  # there was no copy to go on from, and the table goes on
            return
        if name not in self._writers:
            self._folder.mkdir(exist_ok=True)
            self._writers[name] = {part: BlockWriter(self._folder, record) for part, record in copy.files.items()}
            if not copy.files["texts"].size:
                self._writers[name]["texts"].write(memoryview(flat_schema(name).serialize()))
        writers = self._writers[name]
        writers["texts"].write(memoryview(_flat_batch(name, batch).serialize()))
        for column in VECTOR_NAMES[name]:
            writers[column].write(halves_of(batch.column(column)).data)
        self._copies[name] = replace(copy, rows=copy.rows + batch.num_rows)

    def _compacted(self, name: str, copy: TableCopy) -> TableCopy:
        """Write a table anew without its dead rows."""
        columns = _mapped_table(self._folder, name, copy, self._dim)
        new = TableCopy.new(name, copy.generation + 1)
        writers = {part: BlockWriter(self._folder, record) for part, record in new.files.items()}
        writers["texts"].write(memoryview(flat_schema(name).serialize()))
        starts, stops = [-1, *copy.dead], [*copy.dead, copy.rows]
        for dead, stop in zip(starts, stops, strict=True):
            for start in range(dead + 1, stop, BATCH_ROWS):
                part = slice(start, min(start + BATCH_ROWS, stop))
                for batch in columns.texts.slice(start, part.stop - start).to_batches():
                    writers["texts"].write(memoryview(batch.serialize()))
                for column, halves in columns.halves.items():
                    columns.check[column](part)
                    writers[column].write(halves[part].data)
        files = {part: writer.finish() for part, writer in writers.items()}
        return TableCopy(new.generation, copy.rows - len(copy.dead), (), files)

    def _write_card(self, copies: Mapping[str, Copies]) -> None:
        body = {digest: {name: asdict(copy) for name, copy in each.items()} for digest, each in copies.items()}
        with replacing(self._folder / _CARD_NAME) as draft:
            draft.write_bytes(seal({"format": _FORMAT, "copies": body}))


def write_flat(directory: Path, manifest: Manifest) -> None:
    """Write the copy of published tables anew; only for the holder of the writer lock."""
    writer = FlatWriter(directory, manifest.encoder.dim, None)
    store = TableStore(directory)
    for name, record in manifest.tables.items():
        writer.restart(name)
        for _ in writer.copying(name, store.scan(name, record, schema(name, 1).names)):
            pass
    writer.finish(manifest)
    writer.sweep()


def _read_card(directory: Path) -> dict[str, dict[str, TableCopy]]:
    """Return the copies by the digest of their tables.

    Raises:
        OSError, ValueError, KeyError, TypeError: there is no card, or it is damaged.
    """
    card = unseal((directory / FLAT_FOLDER / _CARD_NAME).read_bytes())
    if card["format"] != _FORMAT:
        raise ValueError("a card of another release")
    return {
        digest: {name: TableCopy.from_json(copy) for name, copy in copies.items()}
        for digest, copies in card["copies"].items()
    }


def _all_copies(directory: Path) -> list[dict[str, TableCopy]]:
    try:
        return list(_read_card(directory).values())
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _mapped(folder: Path, manifest: Manifest, copies: Copies, names: Collection[str]) -> MemoryColumns:
    """Map the files of some tables, which must have as many live rows as their records say."""
    tables = {}
    for name in names:
        copy, rows = copies.get(name), manifest.rows(name)
        if name in manifest.tables and (copy is None or copy.rows - len(copy.dead) != rows):
            raise ValueError(f"the copy of {name!r} has other rows than the table")
        tables[name] = (
            _empty(name, manifest.encoder.dim)
            if copy is None
            else _mapped_table(folder, name, copy, manifest.encoder.dim)
        )
    return MemoryColumns(tables)


def _mapped_table(folder: Path, name: str, copy: TableCopy, dim: int) -> TableColumns:
    if not copy.rows and not copy.files["texts"].size:
        return _empty(name, dim)
    source = MappedBlocks(folder, copy.files["texts"])
    source.check()
    texts = pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(source.data))).read_all()
    if texts.num_rows != copy.rows or texts.schema != flat_schema(name):
        raise ValueError(f"the copy of {name!r} has other rows or columns than its card says")
    halves, checks = {}, {}
    for column in VECTOR_NAMES[name]:
        blocks = MappedBlocks(folder, copy.files[column])
        halves[column] = np.frombuffer(blocks.data, np.float16).reshape(-1, dim)
        if len(halves[column]) != copy.rows:
            raise ValueError(f"{column!r} of {name!r} has other rows than its card says")
        checks[column] = _row_check(blocks, 2 * dim)
    return TableColumns(texts, halves, np.array(copy.dead, np.int64), checks)


def _row_check(blocks: MappedBlocks, row_bytes: int) -> Callable[[NDArray[np.int64] | slice], None]:
    def check(rows: NDArray[np.int64] | slice) -> None:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(blocks.data) // row_bytes)
            if stop > start:
                blocks.check(start * row_bytes, stop * row_bytes)
        else:
            first = rows * row_bytes
            blocks.check_blocks(np.concatenate([first, first + row_bytes - 1]) // BLOCK_BYTES)

    return check


def _columns_of_table(store: TableStore, name: str, record: TableRecord | None, dim: int) -> TableColumns:
    if record is None:
        return _empty(name, dim)
    halves = {column: np.empty((record.rows, dim), np.float16) for column in VECTOR_NAMES[name]}
    batches, rows = [], 0
    for batch in store.scan(name, record, schema(name, dim).names):
        stop = rows + batch.num_rows
        if stop <= record.rows:
            for column, matrix in halves.items():
                matrix[rows:stop] = halves_of(batch.column(column))
        batches.append(_flat_batch(name, batch))
        rows = stop
    if rows != record.rows:
        raise ValueError(f"the table {name!r} has {rows} rows instead of {record.rows}")
    texts = pa.Table.from_batches(batches, flat_schema(name))
    return TableColumns(texts, halves, np.empty(0, np.int64), dict.fromkeys(halves, _unchecked))


def _empty(name: str, dim: int) -> TableColumns:
    halves: dict[str, Halves] = {column: np.empty((0, dim), np.float16) for column in VECTOR_NAMES[name]}
    nothing = np.empty(0, np.int64)
    return TableColumns(
        pa.Table.from_batches([], flat_schema(name)), halves, nothing, dict.fromkeys(halves, _unchecked)
    )


def _unchecked(_rows: NDArray[np.int64] | slice) -> None:
    """Vectors that were read from the tables are in memory."""


def _flat_batch(name: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return all columns but the vectors; hexadecimal ids become numbers, which are quick to sort."""
    ids = [int(text, 16) for text in batch.column(OWNER_COLUMNS[name]).to_pylist()]
    columns = [pa.array(ids, pa.uint64()), *(batch.column(column) for column in FLAT_COLUMNS[name])]
    return pa.RecordBatch.from_arrays(columns, schema=flat_schema(name))
