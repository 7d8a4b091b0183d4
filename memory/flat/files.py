"""The files of the flat copy (see `memory.flat`): what its card says, and how they are mapped and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from memory.columns import TableColumns
from memory.durable import replacing
from memory.halves import Halves
from memory.mapped import BLOCK_BYTES, BlockRecord, MappedBlocks
from memory.sealed import seal, unseal
from memory.tables import FLAT_COLUMNS, OWNER_COLUMNS, VECTOR_NAMES, flat_schema

FLAT_FOLDER = "flat"
CARD_NAME = "FLAT.json"
_FORMAT = 2


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


def read_card(directory: Path) -> dict[str, dict[str, TableCopy]]:
    """Return the copies by the digest of their tables.

    Raises:
        OSError, ValueError, KeyError, TypeError: there is no card, or it is damaged.
    """
    card = unseal((directory / FLAT_FOLDER / CARD_NAME).read_bytes())
    if card["format"] != _FORMAT:
        raise ValueError("a card of another release")
    return {
        digest: {name: TableCopy.from_json(copy) for name, copy in copies.items()}
        for digest, copies in card["copies"].items()
    }


def write_card(directory: Path, copies: Mapping[str, Copies]) -> None:
    """Write the card: the copies by the digest of their tables; WriteFailed where the disk refuses."""
    body = {digest: {name: asdict(copy) for name, copy in each.items()} for digest, each in copies.items()}
    with replacing(directory / FLAT_FOLDER / CARD_NAME) as draft:
        draft.write_bytes(seal({"format": _FORMAT, "copies": body}))


def all_copies(directory: Path) -> list[dict[str, TableCopy]]:
    """Return the copies that the card lists; none where there is no card."""
    try:
        return list(read_card(directory).values())
    except (OSError, ValueError, KeyError, TypeError):
        return []


def mapped_table(folder: Path, name: str, copy: TableCopy, dim: int) -> TableColumns:
    """Map the files of a table; vectors are not read.

    Raises:
        OSError, ValueError, MemoryDamaged: a file is missing, or not what was written.
    """
    if not copy.rows and not copy.files["texts"].size:
        return empty_table(name, dim)
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
        checks[column] = row_check(blocks, 2 * dim)
    return TableColumns(texts, halves, np.array(copy.dead, np.int64), checks)


def row_check(blocks: MappedBlocks, row_bytes: int) -> Callable[[NDArray[np.int64] | slice], None]:
    """Return what checks the blocks of rows of so many bytes, which raises DamagedBlock."""

    def check(rows: NDArray[np.int64] | slice) -> None:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(blocks.data) // row_bytes)
            if stop > start:
                blocks.check(start * row_bytes, stop * row_bytes)
        else:
            first = rows * row_bytes
            blocks.check_blocks(np.concatenate([first, first + row_bytes - 1]) // BLOCK_BYTES)

    return check


def empty_table(name: str, dim: int) -> TableColumns:
    """Return the columns of a table without rows."""
    halves: dict[str, Halves] = {column: np.empty((0, dim), np.float16) for column in VECTOR_NAMES[name]}
    nothing = np.empty(0, np.int64)
    return TableColumns(pa.Table.from_batches([], flat_schema(name)), halves, nothing, dict.fromkeys(halves, unchecked))


def unchecked(_rows: NDArray[np.int64] | slice) -> None:
    """Vectors that were read from the tables are in memory."""


def flat_batch(name: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return all columns but the vectors; hexadecimal ids become numbers, which are quick to sort."""
    ids = [int(text, 16) for text in batch.column(OWNER_COLUMNS[name]).to_pylist()]
    columns = [pa.array(ids, pa.uint64()), *(batch.column(column) for column in FLAT_COLUMNS[name])]
    return pa.RecordBatch.from_arrays(columns, schema=flat_schema(name))
