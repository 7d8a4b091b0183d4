"""Files of vectors and indexes, mapped into memory and checked block by block.

A file of gigabytes takes longer to check than an answer may take, so each block of it is checked once, when it is first
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.durable import HASH_THREADS, replacing
from memory.errors import MemoryDamaged, printable_path

# A search reads some thousand rows from all over the files, and each has its whole block read the first time: with
# blocks of 64 MiB that is all of a memory, with these it is a quarter of a gigabyte. A million categories of 512
# dimensions with 3 descriptions have 110,000 blocks, whose sums are 1.2 MB of JSON.
BLOCK_BYTES = 64 * 2**10
# Blocks from which on threads share the work; starting them takes as long as checking these.
MANY_BLOCKS = 256


class DamagedBlock(MemoryDamaged):
    """A block of a file does not hold what was written."""


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What a file holds.

    Attributes:
        file: its path in the folder.
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
        path = Path(record.file)
        if path.is_absolute() or ".." in path.parts or len(record.sums) != -(-record.size // BLOCK_BYTES):
            raise ValueError(f"{record.file} has another number of blocks, or is elsewhere")
        return record


def block_record(folder: Path, file: str) -> BlockRecord:
    """Read a file of a folder, and return what it holds; OSError where it cannot be read."""
    sums = []
    with open(folder / file, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            sums.append(zlib.crc32(block))
        return BlockRecord(file, stream.tell(), tuple(sums))


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
            DamagedBlock: one does not hold what was written.
        """
        if not self._any_unchecked:
            return
        stop = self._record.size if stop is None else stop
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        self.check_blocks(first + np.flatnonzero(self._unchecked[first:last]))

    def check_blocks(self, numbers: NDArray[np.int64]) -> None:
        """Check some blocks that were not checked before; DamagedBlock as for ``check``."""
        if not self._any_unchecked:
            return
        wanted = np.unique(numbers)
        wanted = wanted[self._unchecked[wanted]]
        if len(wanted) < MANY_BLOCKS:
            self._compare(wanted)
        else:
            with ThreadPoolExecutor(HASH_THREADS) as pool:
                for _ in pool.map(self._compare, np.array_split(wanted, HASH_THREADS)):
                    pass
        self._any_unchecked = bool(self._unchecked.any())

    def _compare(self, numbers: NDArray[np.int64]) -> None:
        """Compare the sums of blocks with those recorded."""
        with memoryview(self.data) as view:
            for number in numbers.tolist():
                with view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES] as block:
                    if zlib.crc32(block) != self._record.sums[number]:
                        raise DamagedBlock(
                            f"block {number} of {printable_path(self._path)} does not hold what was written. Write it "
                            "again from the tables: recognizer repair DIR"
                        )
                self._unchecked[number] = False


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
