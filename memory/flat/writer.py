"""Writing the flat copy (see `memory.flat`) beside the tables."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory.durable import sync_folder
from memory.errors import WriteFailed
from memory.flat.files import (
    CARD_NAME,
    FLAT_FOLDER,
    Copies,
    TableCopy,
    all_copies,
    flat_batch,
    mapped_table,
    read_card,
    write_card,
)
from memory.manifest import Manifest
from memory.mapped import BlockWriter
from memory.store import BATCH_ROWS, TableStore
from memory.tables import VECTOR_NAMES, flat_schema, halves_of, schema

# A table is written anew without its dead rows when they are more than this share: until then they cost disk, and no
# time but that of skipping them.
_MOST_DEAD = 0.1


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
            self._published = read_card(directory)[self._digest or ""]
        self._copies: dict[str, TableCopy] = dict(self._published or {})
        self._writers: dict[str, dict[str, BlockWriter]] = {}
        self._failed = False

    def restart(self, name: str) -> None:
        """Begin a table anew, without rows."""
        earlier = [copy.generation for copies in all_copies(self._folder.parent) for copy in copies.values()]
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
            write_card(self._folder.parent, copies)

        if self._copies.keys() >= manifest.tables.keys():
            self._guarded(write)

    def sweep(self) -> None:
        """Delete the files that no copy uses."""
        used = {
            record.file
            for copies in all_copies(self._folder.parent)
            for c in copies.values()
            for record in c.files.values()
        }
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in used | {CARD_NAME}:
                    path.unlink()
            if not used:
                shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Leave the files as they were."""
        for writers in self._writers.values():
            for writer in writers.values():
                writer.abandon()
        self._writers = {}
        if not any(all_copies(self._folder.parent)):
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
        writers["texts"].write(memoryview(flat_batch(name, batch).serialize()))
        for column in VECTOR_NAMES[name]:
            writers[column].write(halves_of(batch.column(column)).data)
        self._copies[name] = replace(copy, rows=copy.rows + batch.num_rows)

    def _compacted(self, name: str, copy: TableCopy) -> TableCopy:
        """Write a table anew without its dead rows."""
        columns = mapped_table(self._folder, name, copy, self._dim)
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
