"""What stands beside the tables of a memory: its calibration, and the files of its indexes.

MEMORY.json does not list them. The calibration is one small file under its own name, bound to the tables by what it
says of itself. The files of an index are named by their content, and a list of them, written last, says which they are;
an index that is missing, or does not belong to the tables, is built again by whoever opens the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from memory.durable import FileRecord, record_file
from memory.errors import MemoryDamaged, ObjectStoreError
from memory.manifest import MANIFEST_NAME, Manifest
from memory.remote import CALIBRATION
from memory.remote.folders import link_files
from memory.remote.objects import Objects
from memory.remote.transfer import check_paths, content_key, fetch
from memory.sealed import seal, unseal
from memory.search import INDEX_FOLDER

INDEX_LIST: Final = f"{INDEX_FOLDER}/FILES.json"
MOST_BYTES: Final[Mapping[str, int]] = {
    MANIFEST_NAME: 64 * 2**20,  # 200 bytes a file; a memory is rewritten long before it has that many
    CALIBRATION: 2 * 2**20,
    INDEX_LIST: 2**20,
}
"""More is not read of a small file that may be somebody else's."""
# The largest index holds two copies of each vector as float32 and 512 links beside them.
_MOST_BYTES_PER_VALUE = 8
_MOST_BYTES_PER_ROW = 4096
_MOST_BYTES_OF_ALL = 64 * 2**20  # what does not grow with the rows: centroids, cards


def index_records(directory: Path) -> dict[str, FileRecord]:
    """Return the files of the indexes in a directory, by path."""
    paths = sorted((directory / INDEX_FOLDER).rglob("*"))
    return {
        path.relative_to(directory).as_posix(): record_file(path)
        for path in paths
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    }


def index_list(records: Mapping[str, FileRecord]) -> bytes:
    """Return the list of the files of the indexes as it is stored."""
    return seal({"files": {path: asdict(record) for path, record in records.items()}})


def read_index_list(data: bytes, shown: str) -> dict[str, FileRecord]:
    """Read the list of the files of the indexes.

    Raises:
        MemoryDamaged: it is not one.
    """
    try:
        records = {str(path): FileRecord(**record) for path, record in unseal(data)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MemoryDamaged(f"{shown}: {INDEX_LIST} is damaged") from error
    check_paths(records, shown)
    if not all(path.startswith(f"{INDEX_FOLDER}/") for path in records):
        raise MemoryDamaged(f"{shown}: {INDEX_LIST} names a file elsewhere")
    return records


def fetch_index(objects: Objects, data: bytes, manifest: Manifest, source: Path | None, target: Path) -> None:
    """Fetch the files of the indexes; where that is not possible, there are none, and they are built again.

    Args:
        objects: of the memory.
        data: the list.
        manifest: of the memory; bounds what is fetched.
        source: a directory that has some of them already.
        target: the new directory.
    """
    rows = sum(table.rows for table in manifest.tables.values())
    most = rows * (manifest.encoder.dim * _MOST_BYTES_PER_VALUE + _MOST_BYTES_PER_ROW) + _MOST_BYTES_OF_ALL
    try:
        records = read_index_list(data, str(objects.address))
        if sum(record.size for record in records.values()) > most:
            return
        known = link_files(source, target, records, checked=True)
        fetch(objects, {path: (content_key(one), one) for path, one in records.items() if path not in known}, target)
    except (MemoryDamaged, ObjectStoreError):
        return
