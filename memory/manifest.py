"""MEMORY.json: what a memory consists of, written last.

A memory is what its manifest vouches for: Lance versions of tables, with size and hash of every file that belongs to
them. Whatever else lies in the directory is either from an earlier version or from a write that did not finish.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memory.durable import FileRecord, write_atomically
from memory.encoder_card import EncoderCard
from memory.errors import MemoryDamaged, MemoryNotFound, SchemaTooNew, printable_path

MANIFEST_NAME = "MEMORY.json"
SCHEMA = 1
REBUILD = "Build the memory again over the same labels; what is intact is reused"


@dataclass(frozen=True, slots=True)
class TableRecord:
    """A version of a Lance table: its number, its rows, and its files by path relative to the memory."""

    version: int
    rows: int
    files: Mapping[str, FileRecord]


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """How the memory is searched.

    Attributes:
        kind: "exact" or "hnsw".
        fold_key: which folding of the category vectors the recall was measured with.
        recall: recall@10 against exact search for each approximate index, once it has been measured.
    """

    kind: str = "exact"
    fold_key: str = ""
    recall: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of MEMORY.json. ``version`` grows by one whenever the tables change."""

    version: int
    encoder: EncoderCard
    templates: tuple[str, ...]
    settings: Mapping[str, Any]
    tables: Mapping[str, TableRecord]
    index: IndexRecord = IndexRecord()

    def rows(self, table: str) -> int:
        """Return the number of rows of a table; a table without rows is not stored."""
        return self.tables[table].rows if table in self.tables else 0

    def tables_digest(self) -> str:
        """Return a hash over the content of the tables, which says whether an index belongs to them."""
        return hashlib.sha256(_dump({name: asdict(record) for name, record in self.tables.items()})).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file content: a JSON object that holds the hash of itself without that hash."""
        body = {"schema": SCHEMA, **asdict(self)}
        return _dump({**body, "sha256": hashlib.sha256(_dump(body)).hexdigest()})


def read_manifest(directory: Path) -> Manifest:
    """Read MEMORY.json.

    Raises:
        MemoryNotFound: there is none.
        SchemaTooNew: a newer release wrote it.
        MemoryDamaged: it is not what was written.
    """
    path = directory / MANIFEST_NAME
    shown = printable_path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MemoryNotFound(
            f"there is no memory at {printable_path(directory)} (no {MANIFEST_NAME} in it). "
            "Check the path, or make one with: recognizer build LABELS --memory DIR"
        ) from error
    try:
        body = json.loads(data)
        schema = body["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise SchemaTooNew(
                f"{shown} has schema {schema}; this release reads up to {SCHEMA}. Install a newer release."
            )
        manifest = _from_json(body)
        intact = manifest.to_bytes() == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MemoryDamaged(f"{shown} is damaged ({type(error).__name__}). {REBUILD}.") from error
    if not intact:
        raise MemoryDamaged(f"{shown} is not as it was written. {REBUILD}.")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Publish a manifest: from here on the memory is what it says."""
    write_atomically(directory / MANIFEST_NAME, manifest.to_bytes())


def _from_json(body: Mapping[str, Any]) -> Manifest:
    return Manifest(
        version=int(body["version"]),
        encoder=EncoderCard.from_json(body["encoder"]),
        templates=tuple(body["templates"]),
        settings=dict(body["settings"]),
        tables={
            name: TableRecord(
                int(table["version"]),
                int(table["rows"]),
                {path: FileRecord(**record) for path, record in table["files"].items()},
            )
            for name, table in body["tables"].items()
        },
        index=IndexRecord(**body["index"]),
    )


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
