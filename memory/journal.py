"""The journal of a build: vectors that are computed, but not yet published in the tables.

File format, repeated for each chunk: a header (magic, number of rows n, dimension d, crc32 of n, d and what follows,
0), n keys of 16 bytes, n x d float32, little-endian. A chunk is valid when its crc is right. The next writer cuts off
what a kill or a power loss left after the last valid chunk.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.durable import sync_folder, write_all, write_failure
from memory.texts import KEY_BYTES, Keys, keys_from_bytes, lookup
from memory.vectors import Matrix

JOURNAL_NAME = "vectors.journal"
_MAGIC = b"MEMVEC1\0"
_HEADER = struct.Struct("<8sIIII")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Keys of a chunk and where its vectors begin, counted in float32 from the start of the file."""

    keys: Keys
    start: int
    end_byte: int


class VectorJournal:
    """Append-only store of vectors by key, for the holder of the memory's writer lock.

    Args:
        directory: the memory.
        dim: dimension D of the vectors; chunks of another dimension are ignored.
    """

    def __init__(self, directory: Path, dim: int) -> None:
        """Read the keys; vectors are read when they are asked for."""
        self._path = directory / JOURNAL_NAME
        self._dim = dim
        chunks = list(self._chunks()) if self._path.exists() else []
        self._end_byte = chunks[-1].end_byte if chunks else 0
        self._keys: Keys = np.concatenate([keys_from_bytes(b""), *(chunk.keys for chunk in chunks)])
        self._starts = np.concatenate(
            [np.empty(0, np.int64), *(self._row_starts(c.start, len(c.keys)) for c in chunks)]
        )
        self._order: NDArray[np.int64] | None = None

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Return for N keys (N) bool which of them are here."""
        return self._positions(keys) >= 0

    def get(self, keys: Keys) -> Matrix:
        """Return (N, D) float32 vectors of N keys, all of which are here.

        Raises:
            KeyError: a key is not here.
        """
        if not len(keys):
            return np.empty((0, self._dim), np.float32)
        positions = self._positions(keys)
        if (positions < 0).any():
            raise KeyError(f"{int((positions < 0).sum())} of {len(keys)} vectors are not in {self._path}")
        # Headers and keys are multiples of 4 bytes, so the whole file can be read as float32, and a row is a window
        # of D of them that begins anywhere.
        floats = np.memmap(self._path, dtype="<f4", mode="r", shape=(self._end_byte // 4,))
        windows = np.lib.stride_tricks.sliding_window_view(floats, self._dim)
        return np.array(windows[self._starts[positions]], dtype=np.float32)

    def append(self, keys: Keys, vectors: Matrix) -> None:
        """Append N keys with (N, D) float32 vectors, and bring them to the disk."""
        payload = keys.astype(f"S{KEY_BYTES}").tobytes() + np.ascontiguousarray(vectors, "<f4").tobytes()
        header = _HEADER.pack(_MAGIC, len(keys), self._dim, _crc(len(keys), self._dim, payload), 0)
        is_new = not self._path.exists()
        try:
            with open(self._path, "r+b" if not is_new else "xb", buffering=0) as file:
                file.truncate(self._end_byte)
                file.seek(self._end_byte)
                write_all(file, header + payload)
                os.fsync(file.fileno())
        except OSError as error:
            self._cut_off()
            raise write_failure(self._path, error, len(header) + len(payload)) from error
        if is_new:
            sync_folder(self._path.parent)
        start = (self._end_byte + _HEADER.size + KEY_BYTES * len(keys)) // 4
        self._end_byte += len(header) + len(payload)
        self._keys = np.concatenate((self._keys, keys))
        self._starts = np.concatenate((self._starts, self._row_starts(start, len(keys))))
        self._order = None

    def _cut_off(self) -> None:
        """Delete what a failed write left, so that it does not fill the disk; the valid chunks stay."""
        with contextlib.suppress(OSError):
            if self._end_byte:
                os.truncate(self._path, self._end_byte)
            else:
                self._path.unlink()

    def _positions(self, keys: Keys) -> NDArray[np.int64]:
        if self._order is None:
            self._order = np.argsort(self._keys, kind="stable")
        return lookup(self._keys, self._order, keys)

    def _row_starts(self, start: int, rows: int) -> NDArray[np.int64]:
        return start + np.arange(rows, dtype=np.int64) * self._dim

    def _chunks(self) -> Iterator[_Chunk]:
        """Yield the valid chunks of this dimension; stop where no chunk begins or the file ends within one."""
        size = self._path.stat().st_size
        with open(self._path, "rb") as file:
            position = 0
            while position + _HEADER.size <= size:
                magic, count, dim, crc, _ = _HEADER.unpack(file.read(_HEADER.size))
                length = count * (KEY_BYTES + 4 * dim)
                end = position + _HEADER.size + length
                if magic != _MAGIC or end > size:
                    return
                payload = file.read(length)
                # After a chunk with a wrong crc the search goes on: only its own vectors are lost.
                if dim == self._dim and crc == _crc(count, dim, payload):
                    keys = keys_from_bytes(payload[: count * KEY_BYTES])
                    yield _Chunk(keys, (position + _HEADER.size + count * KEY_BYTES) // 4, end)
                position = end


def is_journal(path: Path) -> bool:
    """Say whether a file begins as a journal does."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def remove_journal(directory: Path) -> None:
    """Delete the journal of a memory whose vectors are published."""
    (directory / JOURNAL_NAME).unlink(missing_ok=True)


def _crc(count: int, dim: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<II", count, dim)))
