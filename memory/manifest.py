"""MEMORY.json: what a memory consists of, written last.

It lists versions of Lance tables, with size and hash of every file that belongs to them. Other files in the directory
are from an earlier version, or from a write that did not finish.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memory.durable import FileRecord, replacing
from memory.encoder_card import EncoderCard
from memory.errors import MemoryDamaged, MemoryNotFound, SchemaTooNew, printable_path

MANIFEST_NAME = "MEMORY.json"
SCHEMA = 1
REBUILD = "Build the memory again with the same labels; vectors that are intact are used again"


@dataclass(frozen=True, slots=True)
class TableRecord:
    """A version of a Lance table.

    Attributes:
        version: Lance's number.
        rows: how many.
        files: by path relative to the memory.
    """

    version: int
    rows: int
    files: Mapping[str, FileRecord]


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """How the memory is searched.

    Attributes:
        kind: "exact" or "hnsw".
        fold_key: of the fold (see ``memory.search.Fold``) that the recall was measured with.
        recall: recall@10 against exact search for each approximate index, once it has been measured.
    """

    kind: str = "exact"
    fold_key: str = ""
    recall: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of MEMORY.json.

    Attributes:
        version: grows by one whenever the tables change.
        encoder: the encoder that made the vectors.
        templates: texts with a placeholder for the name.
        settings: free JSON of the user of the memory.
        tables: by name; a table without rows is not stored.
        index: how the memory is searched.
    """

    version: int
    encoder: EncoderCard
    templates: tuple[str, ...]
    settings: Mapping[str, Any]
    tables: Mapping[str, TableRecord]
    index: IndexRecord = IndexRecord()

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self.tables[table].rows if table in self.tables else 0

    def tables_digest(self) -> str:
        """Return a hash over the content of the tables; an index stores it to say which tables it belongs to."""
        return hashlib.sha256(_dump({name: asdict(record) for name, record in self.tables.items()})).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of the file: a JSON object that holds the hash of the rest of itself."""
        body = {"schema": SCHEMA, **asdict(self)}
        return _dump({**body, "sha256": hashlib.sha256(_dump(body)).hexdigest()})


def read_manifest(directory: Path) -> Manifest:
    """Read MEMORY.json.

    Raises:
        MemoryNotFound: there is none.
        SchemaTooNew: a newer release wrote it.
        MemoryDamaged: its content has changed since it was written.
    """
    path = directory / MANIFEST_NAME
    shown = printable_path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MemoryNotFound(
            f"there is no memory at {printable_path(directory)} (no {MANIFEST_NAME} in it). "
            "Check the path, or build one: recognizer build LABELS --memory DIR"
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
        raise MemoryDamaged(f"{shown} has changed since it was written. {REBUILD}.")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Publish a manifest: from then on the memory consists of the tables it lists."""
    with replacing(directory / MANIFEST_NAME) as draft:
        draft.write_bytes(manifest.to_bytes())


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
