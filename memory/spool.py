"""Byte strings that wait on the disk: the categories of a large label file, the texts of a build."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path

from memory.durable import write_failure

# Written in one call of the system.
_BUFFER_BYTES = 2**20


class Spool:
    """Byte strings in a temporary file without a name, which goes with the process, however that ends.

    In memory are 8 bytes for each.

    Args:
        folder: on whose disk they wait; None: that of temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Make the file.

        Raises:
            WriteFailed: the disk refuses.
        """
        self._folder = Path(folder or tempfile.gettempdir())
        try:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=_BUFFER_BYTES)  # noqa: SIM115  see close
        except OSError as error:
            raise write_failure(self._folder / "temporary file", error) from error
        self._starts = array("q", [0])
        self._is_flushed = True

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._starts) - 1

    def append(self, data: bytes) -> None:
        """Add one.

        Raises:
            WriteFailed: the disk refuses.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise write_failure(self._folder / "temporary file", error) from error
        self._starts.append(self._starts[-1] + len(data))
        self._is_flushed = False

    def read(self, places: Sequence[int]) -> list[bytes]:
        """Return those at some places."""
        if not self._is_flushed:
            self._flush()
        number, starts = self._file.fileno(), self._starts
        return [os.pread(number, starts[place + 1] - starts[place], starts[place]) for place in places]

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise write_failure(self._folder / "temporary file", error) from error
        self._is_flushed = True

    def __del__(self) -> None:
        """Close the file, which deletes it."""
        if hasattr(self, "_file"):
            self._file.close()
