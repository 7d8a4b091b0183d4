"""Reading the flat copy, or the tables where it cannot be used."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from memory.columns import MemoryColumns, TableColumns
from memory.errors import MemoryDamaged
from memory.flat.files import FLAT_FOLDER, Copies, empty_table, flat_batch, mapped_table, read_card, unchecked
from memory.integrity import check_files
from memory.manifest import Manifest, TableRecord
from memory.mapped import MappedBlocks
from memory.store import TableStore
from memory.tables import TABLES, VECTOR_NAMES, flat_schema, halves_of, schema
from memory.vectors import MemoryVectors


def read_flat(directory: Path, manifest: Manifest, names: Collection[str] = TABLES) -> MemoryColumns | None:
    """Map the flat copy of some of a manifest's tables; None when it is missing, damaged or of other tables.

    Only the files of these tables are opened. Vectors are not read.
    """
    try:
        copies = read_card(directory)[manifest.tables_digest()]
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

    A small memory is read whole here, so damage of its copy shows here, and the tables are read. In a large one damage
    shows where the vectors are used.
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
        copies = read_card(directory)[manifest.tables_digest()]
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
        rows = flat_batch(name, batch).to_pylist()
        if len(places) != len(rows) or [own.texts.slice(p, 1).to_pylist()[0] for p in places.tolist()] != rows:
            return False
        for column in VECTOR_NAMES[name]:
            if not np.array_equal(own.halves[column][places], halves_of(batch.column(column))):
                return False
    return start == len(live)


def _mapped(folder: Path, manifest: Manifest, copies: Copies, names: Collection[str]) -> MemoryColumns:
    """Map the files of some tables, which must have as many live rows as their records say."""
    tables = {}
    for name in names:
        copy, rows = copies.get(name), manifest.rows(name)
        if name in manifest.tables and (copy is None or copy.rows - len(copy.dead) != rows):
            raise ValueError(f"the copy of {name!r} has other rows than the table")
        tables[name] = (
            empty_table(name, manifest.encoder.dim)
            if copy is None
            else mapped_table(folder, name, copy, manifest.encoder.dim)
        )
    return MemoryColumns(tables)


def _columns_of_table(store: TableStore, name: str, record: TableRecord | None, dim: int) -> TableColumns:
    if record is None:
        return empty_table(name, dim)
    halves = {column: np.empty((record.rows, dim), np.float16) for column in VECTOR_NAMES[name]}
    batches, rows = [], 0
    for batch in store.scan(name, record, schema(name, dim).names):
        stop = rows + batch.num_rows
        if stop <= record.rows:
            for column, matrix in halves.items():
                matrix[rows:stop] = halves_of(batch.column(column))
        batches.append(flat_batch(name, batch))
        rows = stop
    if rows != record.rows:
        raise ValueError(f"the table {name!r} has {rows} rows instead of {record.rows}")
    texts = pa.Table.from_batches(batches, flat_schema(name))
    return TableColumns(texts, halves, np.empty(0, np.int64), dict.fromkeys(halves, unchecked))
