"""What an edit needs of a memory: tables of this release, and their flat copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memory.build import MemoryWriter
from memory.columns import MemoryColumns
from memory.flat.reader import read_flat, stored_columns
from memory.flat.writer import write_flat
from memory.integrity import check_files
from memory.manifest import SCHEMA, IndexRecord, Manifest
from memory.tables import TABLES


def writable(directory: Path, manifest: Manifest) -> tuple[Manifest, MemoryColumns]:
    """Return the manifest and the columns of a memory that can be edited; only for the holder of the writer lock.

    Tables of an earlier release, whose vectors are float32, are first published in today's form, and a flat copy that
    is missing is written.

    Raises:
        MemoryDamaged: a file of the tables has changed.
    """
    if manifest.schema < SCHEMA:
        check_files(directory, manifest, TABLES, whole=True)
        with MemoryWriter(directory, manifest.encoder.dim, manifest.tables, manifest, None) as writer:
            tables, index = writer.rewritten(), IndexRecord(manifest.index.kind, manifest.index.fold_key)
            manifest = writer.publish(replace(manifest, tables=tables, index=index, schema=SCHEMA))
    columns = read_flat(directory, manifest)
    if columns is None:
        write_flat(directory, manifest)
        columns = stored_columns(directory, manifest)
    return manifest, columns
