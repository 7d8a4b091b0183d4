"""MEMORY.json: what a memory consists of, written last.

It lists versions of Lance tables, with size and hash of every file that belongs to them. Other files in the directory
are from an earlier version, or from a write that did not finish. A copy, MEMORY.json.1, is written after it at each
publication, so one damaged file does not lose the list: either is enough.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from memory.durable import FileRecord, replacing
from memory.encoder_card import EncoderCard
from memory.errors import MemoryDamaged, MemoryNotFound, SchemaTooNew, WriteFailed, printable_path
from memory.sealed import seal, sha256_of, unseal

MANIFEST_NAME = "MEMORY.json"
MANIFEST_COPY = "MEMORY.json.1"
SCHEMA = 2
# Memories whose vectors are float32 are read, and written in today's form by the next change.
_FLOAT32_SCHEMA = 1
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
        kind: "exact", "hnsw", "ivf" or "lance".
        fold_key: of the fold (see ``memory.search.Fold``) that the recall was measured with.
        recall: of the approximate search against exact search, once it has been measured: "search" for the index itself
            (recall@10), others as the user of the memory names them.
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
        content: hashes over what the tables were built from (see `memory.content`); empty where they are not known.
        schema: of the tables; 1 has vectors of float32, and no content.
    """

    version: int
    encoder: EncoderCard
    templates: tuple[str, ...]
    settings: Mapping[str, Any]
    tables: Mapping[str, TableRecord]
    index: IndexRecord = IndexRecord()
    content: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self.tables[table].rows if table in self.tables else 0

    def tables_digest(self) -> str:
        """Return a hash over the content of the tables; an index stores it to say which tables it belongs to."""
        return sha256_of({name: asdict(record) for name, record in self.tables.items()})

    def to_bytes(self) -> bytes:
        """Return the content of the file: a JSON object that holds the hash of the rest of itself."""
        body = asdict(self)
        if self.schema == _FLOAT32_SCHEMA:
            del body["content"]
        return seal(body)


def read_manifest(directory: Path) -> Manifest:
    """Read MEMORY.json, or its copy where MEMORY.json is missing or damaged.

    Raises:
        MemoryNotFound: there is neither.
        SchemaTooNew: a newer release wrote it.
        MemoryDamaged: the content of both has changed since they were written, or of one and the other is missing.
    """
    damage: MemoryDamaged | None = None
    for name in (MANIFEST_NAME, MANIFEST_COPY):
        try:
            return read_copy(directory / name)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            break
        except MemoryDamaged as error:
            damage = damage or error
    if damage is not None:
        raise damage
    raise MemoryNotFound(
        f"there is no memory at {printable_path(directory)} (no {MANIFEST_NAME} in it). "
        "Check the path, or build one: recognizer build LABELS --memory DIR"
    )


def read_copy(path: Path) -> Manifest:
    """Read one of the two copies.

    Raises:
        OSError: it cannot be read.
        SchemaTooNew, MemoryDamaged: as for ``read_manifest``.
    """
    return parse_manifest(path.read_bytes(), printable_path(path))


def parse_manifest(data: bytes, shown: str) -> Manifest:
    """Return the manifest that a MEMORY.json holds, which errors name as ``shown``.

    Raises:
        SchemaTooNew, MemoryDamaged: as for ``read_manifest``.
    """
    try:
        body = unseal(data)
        schema = body["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise SchemaTooNew(
                f"{shown} has schema {schema}; this release reads up to {SCHEMA}. Install a newer release."
            )
        manifest = _from_json(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MemoryDamaged(f"{shown} is damaged: {error}. {REBUILD}.") from error
    if manifest.to_bytes() != data:
        raise MemoryDamaged(f"{shown} has changed since it was written. {REBUILD}.")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Publish a manifest: as soon as MEMORY.json is replaced, the memory consists of the tables it lists.

    Raises:
        WriteFailed: MEMORY.json could not be written; the memory is as it was.
    """
    data = manifest.to_bytes()
    with replacing(directory / MANIFEST_NAME) as draft:
        draft.write_bytes(data)
    try:
        with replacing(directory / MANIFEST_COPY) as draft:
            draft.write_bytes(data)
    except WriteFailed:
        # Published all the same; but no copy is better than an old one, which would pass for the memory.
        with contextlib.suppress(OSError):
            (directory / MANIFEST_COPY).unlink()


def with_settings(directory: Path, manifest: Manifest, settings: Mapping[str, Any] | None) -> Manifest:
    """Publish a manifest with other settings, unless they are None or its own; return what is published."""
    if settings is None or settings == manifest.settings:
        return manifest
    changed = replace(manifest, settings=settings)
    write_manifest(directory, changed)
    return changed


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
                {_inside(name, path): FileRecord(**record) for path, record in table["files"].items()},
            )
            for name, table in body["tables"].items()
        },
        index=IndexRecord(**body["index"]),
        content=dict(body.get("content", {})),
        schema=int(body["schema"]),
    )


def _inside(table: str, path: str) -> str:
    """Return a path of a file of a table; a list that names files elsewhere is not one of ours."""
    folder, *parts = path.split("/")
    if folder != f"{table}.lance" or not parts or {"", ".", ".."} & set(parts):
        raise ValueError(f"{path!r} is outside of the table {table!r}")
    return path
