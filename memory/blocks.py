"""Large files that are checked block by block: one hash for each 64 MB, so a reader of a part checks only that part."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memory.durable import HASH_THREADS

# Small enough that the first search of a part waits a twentieth of a second for its hash, large enough that the hashes
# of 100 GB are a list of 1,500 lines.
BLOCK_BYTES = 64 * 2**20
_READ_BYTES = 2**20


class DamagedBlock(ValueError):
    """A block does not hold what was written, or the file has another size."""


def write_block_sums(path: Path) -> list[str]:
    """Read a file and return the sha256 (hexadecimal) of each of its blocks; the last one may be shorter."""
    blocks = range(-(-path.stat().st_size // BLOCK_BYTES))
    with open(path, "rb") as stream, ThreadPoolExecutor(HASH_THREADS) as pool:
        return list(pool.map(lambda block: _block_sum(stream.fileno(), block), blocks))


class CheckedBlocks:
    """Checks each block of a file once, when bytes of it are first asked for.

    Args:
        path: the file.
        size: of the file in bytes, as it was written.
        sums: of its blocks, from `write_block_sums`.

    Raises:
        OSError: the file cannot be read.
        DamagedBlock: it has another size.
    """

    def __init__(self, path: Path, size: int, sums: Sequence[str]) -> None:
        """Compare the size; no block is read."""
        # Open from now on: a writer may replace the file under its name, while this one is still read.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        if os.fstat(self._descriptor).st_size != size or len(sums) != -(-size // BLOCK_BYTES):
            raise DamagedBlock(f"{path.name} has another size than was written")
        self._name, self._size, self._sums = path.name, size, list(sums)
        self._unchecked = set(range(len(self._sums)))

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Check the blocks of the bytes from `start` to before `stop` (default: the end) that were not checked before.

        Raises:
            OSError: the file cannot be read.
            DamagedBlock: one of them has changed.
        """
        stop = self._size if stop is None else min(stop, self._size)
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        wanted = sorted(self._unchecked.intersection(range(first, last)))
        if not wanted:
            return
        with ThreadPoolExecutor(min(HASH_THREADS, len(wanted))) as pool:
            sums = pool.map(lambda block: _block_sum(self._descriptor, block), wanted)
            for block, found in zip(wanted, sums, strict=True):
                if found != self._sums[block]:
                    raise DamagedBlock(f"{self._name} does not hold what was written, in block {block}")
        self._unchecked.difference_update(wanted)


def _block_sum(descriptor: int, block: int) -> str:
    digest = hashlib.sha256()
    place, stop = block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES
    while place < stop and (part := os.pread(descriptor, min(stop - place, _READ_BYTES), place)):
        digest.update(part)
        place += len(part)
    return digest.hexdigest()
