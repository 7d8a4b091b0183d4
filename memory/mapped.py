"""Files that only grow, mapped into memory and checked block by block.

A file of gigabytes takes longer to hash than an answer may take, so each block of it is checked once, when it is first
read. Rows are appended behind the recorded size; what a killed write left there is cut off by the next writer, and
readers never see it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memory.durable import replacing
from memory.errors import MemoryDamaged, printable_path

# A block takes about 70 ms to check, and a million categories of 1,384 dimensions have 40 blocks of names.
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What a file holds.

    Attributes:
        file: its name.
        size: in bytes; the file may be longer.
        sums: crc32 of each block, the last of which may be short. A crc, unlike a hash, can be continued when rows are
            appended; it is to find damage, not forgery.
    """

    file: str
    size: int
    sums: tuple[int, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BlockRecord:
        """Make a record from its JSON object; KeyError, TypeError or ValueError where it is of another shape."""
        record = cls(str(value["file"]), int(value["size"]), tuple(map(int, value["sums"])))
        if len(record.sums) != -(-record.size // BLOCK_BYTES) or "/" in record.file:
            raise ValueError(f"{record.file} has another number of blocks")
        return record


class MappedBlocks:
    """The recorded part of a file, mapped into memory.

    Args:
        folder: of the file.
        record: what it holds.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is shorter than recorded.
    """

    def __init__(self, folder: Path, record: BlockRecord) -> None:
        """Map the file; nothing of it is read."""
        self._path = folder / record.file
        self._record = record
        self._unchecked = np.ones(len(record.sums), bool)
        self._any_unchecked = bool(record.sums)
        with open(self._path, "rb") as file:
            if os.fstat(file.fileno()).st_size < record.size:
                raise ValueError(f"{self._path} is too short")
            self.data: mmap.mmap | bytes = (
                mmap.mmap(file.fileno(), record.size, access=mmap.ACCESS_READ) if record.size else b""
            )

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Check the blocks of a range of bytes that were not checked before.

        Raises:
            MemoryDamaged: one does not hold what was written.
        """
        if not self._any_unchecked:
            return
        stop = self._record.size if stop is None else stop
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        self.check_blocks(first + np.flatnonzero(self._unchecked[first:last]))

    def check_blocks(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Check some blocks that were not checked before; MemoryDamaged as for ``check``."""
        if not self._any_unchecked:
            return
        for number in np.unique(numbers).tolist():
            if self._unchecked[number]:
                with memoryview(self.data) as view, view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES] as block:
                    if zlib.crc32(block) != self._record.sums[number]:
                        raise MemoryDamaged(
                            f"block {number} of {printable_path(self._path)} does not hold what was written. Write it "
                            "again from the tables: recognizer repair DIR"
                        )
                self._unchecked[number] = False
        self._any_unchecked = bool(self._unchecked.any())


class BlockWriter:
    """Appends to a file, and keeps the sums of its blocks.

    Args:
        folder: of the file.
        record: what it holds; a record of size 0 starts the file anew.

    Raises:
        OSError: the disk refuses; also by the methods.
    """

    def __init__(self, folder: Path, record: BlockRecord) -> None:
        """Cut off what is behind the recorded size."""
        self._path = folder / record.file
        self._before = record
        self._size, self._sums = record.size, list(record.sums)
        if record.size and self._path.stat().st_nlink > 1:  # another directory has this file, and appends to its own
            with replacing(self._path) as draft:
                shutil.copyfile(self._path, draft)
        self._stream = open(self._path, "r+b" if record.size else "wb")  # noqa: SIM115  closed by the methods
        self._stream.truncate(record.size)
        self._stream.seek(record.size)

    def write(self, data: memoryview) -> None:
        """Append bytes."""
        view = data.cast("B") if data.nbytes else memoryview(b"")
        self._stream.write(view)
        while view:
            filled = self._size % BLOCK_BYTES
            part = view[: BLOCK_BYTES - filled]
            if filled:
                self._sums[-1] = zlib.crc32(part, self._sums[-1])
            else:
                self._sums.append(zlib.crc32(part))
            self._size += len(part)
            view = view[len(part) :]

    def finish(self) -> BlockRecord:
        """Bring the file to the disk, and return what it holds."""
        with self._stream as stream:
            stream.flush()
            os.fsync(stream.fileno())
        return BlockRecord(self._path.name, self._size, tuple(self._sums))

    def abandon(self) -> None:
        """Leave the file as it was."""
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):
            if self._before.size:
                os.truncate(self._path, self._before.size)
            else:
                self._path.unlink()
