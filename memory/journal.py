"""The journal of a build: vectors that are computed, but not yet published in the tables.

File format, repeated for each chunk: a header (magic, number of rows n, dimension d, crc32 of n, d and what follows,
0 for float32 or 1 for fp16), n keys of 16 bytes, n x d numbers, little-endian. A chunk is valid when its crc is right.
The next writer cuts off what a kill or a power loss left after the last valid chunk.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.durable import sync_folder, write_all, write_failure
from memory.halves import widened
from memory.texts import KEY_BYTES, Keys, keys_from_bytes, lookup
from memory.vectors import Matrix

JOURNAL_NAME = "vectors.journal"
_MAGIC = b"MEMVEC1\0"
_HEADER = struct.Struct("<8sIIII")
# By the bytes of a number, how the header says it.
_TYPES = {4: 0, 2: 1}


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Number of rows of a chunk, and the bytes of the file where its vectors begin and end."""

    rows: int
    start: int
    end: int


class VectorJournal:
    """Append-only store of vectors by key, for the holder of the memory's writer lock.

    Args:
        directory: the memory.
        dim: dimension D of the vectors.
        dtype: of their numbers in the file, fp16 or float32; chunks of another dimension or type are ignored.
    """

    def __init__(self, directory: Path, dim: int, dtype: type[np.float16 | np.float32] = np.float32) -> None:
        """Read the keys; vectors are read when they are asked for."""
        self._path = directory / JOURNAL_NAME
        self._dim = dim
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._keys: list[Keys] = [keys_from_bytes(b"")]  # those of several chunks become one when they are looked up
        self._order: NDArray[np.int64] | None = None
        self._chunks: list[_Chunk] = []
        if self._path.exists():
            self._read_chunks()
        self._end = self._chunks[-1].end if self._chunks else 0

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
        firsts = np.cumsum([0, *(chunk.rows for chunk in self._chunks)])
        chunks = np.searchsorted(firsts, positions, side="right") - 1
        starts = np.array([chunk.start for chunk in self._chunks], np.int64) // self._dtype.itemsize
        # Headers and keys are multiples of 4 bytes, so the whole file can be read as numbers, and a row is a window of
        # D of them that begins anywhere.
        numbers = np.memmap(self._path, dtype=self._dtype, mode="r", shape=(self._end // self._dtype.itemsize,))
        windows = np.lib.stride_tricks.sliding_window_view(numbers, self._dim)
        rows = windows[starts[chunks] + (positions - firsts[chunks]) * self._dim]
        return widened(rows) if rows.dtype == np.float16 else np.array(rows, np.float32)

    def append(self, keys: Keys, vectors: Matrix) -> None:
        """Append N keys with (N, D) vectors, and bring them to the disk."""
        payload = keys.astype(f"S{KEY_BYTES}").tobytes() + np.ascontiguousarray(vectors, self._dtype).tobytes()
        checksum = _crc(len(keys), self._dim, payload)
        header = _HEADER.pack(_MAGIC, len(keys), self._dim, checksum, _TYPES[self._dtype.itemsize])
        is_new = not self._path.exists()
        try:
            with open(self._path, "r+b" if not is_new else "xb", buffering=0) as file:
                file.truncate(self._end)
                file.seek(self._end)
                write_all(file, header + payload)
                os.fsync(file.fileno())
        except OSError as error:
            self._cut_off()
            raise write_failure(self._path, error, len(header) + len(payload)) from error
        if is_new:
            sync_folder(self._path.parent)
        start = self._end + _HEADER.size + KEY_BYTES * len(keys)
        self._end += len(header) + len(payload)
        self._add(keys.copy(), start, self._end)

    def _cut_off(self) -> None:
        """Delete what a failed write left, so that it does not fill the disk; the valid chunks stay."""
        with contextlib.suppress(OSError):
            if self._end:
                os.truncate(self._path, self._end)
            else:
                self._path.unlink()

    def _positions(self, keys: Keys) -> NDArray[np.int64]:
        if self._order is None:
            self._keys = [np.concatenate(self._keys)]
            self._order = np.argsort(self._keys[0], kind="stable")
        return lookup(self._keys[0], self._order, keys)

    def _add(self, keys: Keys, start: int, end: int) -> None:
        self._keys.append(keys)
        self._chunks.append(_Chunk(len(keys), start, end))
        self._order = None

    def _read_chunks(self) -> None:
        """Read the keys of the valid chunks of this kind; stop where no chunk begins or the file ends within one."""
        size = self._path.stat().st_size
        with open(self._path, "rb") as file:
            position = 0
            while position + _HEADER.size <= size:
                magic, count, dim, crc, number = _HEADER.unpack(file.read(_HEADER.size))
                width = next((width for width, each in _TYPES.items() if each == number), 4)
                length = count * (KEY_BYTES + width * dim)
                end = position + _HEADER.size + length
                if magic != _MAGIC or end > size:
                    return
                payload = file.read(length)
                # After a chunk with a wrong crc the search goes on: only its own vectors are lost.
                is_own = (dim, width) == (self._dim, self._dtype.itemsize)
                if is_own and crc == _crc(count, dim, payload):
                    keys = keys_from_bytes(payload[: count * KEY_BYTES])
                    self._add(keys, position + _HEADER.size + count * KEY_BYTES, end)
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
