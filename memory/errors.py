"""The errors of the memory.

MemoryStoreError
├── LabelError          a label file that cannot be read as one
├── MemoryNotFound      no memory at this path
├── MemoryDamaged       files that are missing or not the ones the memory vouches for
├── SchemaTooNew        written by a newer release
├── MemoryLocked        another process is writing
├── EncoderMismatch     another encoder than the one that made the memory
├── BadVectors          an encoder handed over vectors that cannot be stored
└── UnknownCategory     a name or id that the memory does not hold, or holds more than once
"""

from __future__ import annotations

from pathlib import Path


class MemoryStoreError(Exception):
    """Base of all errors of this package."""


class LabelError(MemoryStoreError):
    """A label file that cannot be read.

    Args:
        message: what is wrong.
        file: the label file.
        line: 1-based line, where one is known.
        where: place inside a JSON document, such as ``$.categories[3].name``.
        remedy: what to do about it.
    """

    def __init__(
        self, message: str, *, file: str | Path, remedy: str, line: int | None = None, where: str | None = None
    ) -> None:
        """Compose the message."""
        self.file = str(file)
        self.line = line
        self.where = where
        self.remedy = remedy
        place = printable_path(self.file)
        if line is not None:
            place += f", line {line}"
        if where is not None:
            place += f", at {where}"
        super().__init__(f"{place}: {message}. {remedy}.")


class MemoryNotFound(MemoryStoreError):
    """There is no memory in this directory."""


class MemoryDamaged(MemoryStoreError):
    """A file of the memory is missing, or not the file its MEMORY.json vouches for."""


class SchemaTooNew(MemoryStoreError):
    """The memory was written by a newer release."""


class MemoryLocked(MemoryStoreError):
    """Another process is writing to the memory."""


class EncoderMismatch(MemoryStoreError):
    """The memory was made by another encoder."""


class BadVectors(MemoryStoreError):
    """Vectors that are not finite, not unit length or of another shape."""


class UnknownCategory(MemoryStoreError):
    """A name or id that fits no category, or more than one."""


class WriteFailed(OSError):
    """A file could not be written; its message names the file, and what was there before is unchanged."""


def printable(text: str, limit: int = 80) -> str:
    """Shorten a text and escape what a terminal or a log must not see raw."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:limit]
    )
    return shown + ("…" if len(text) > limit else "")


def printable_path(path: str | Path) -> str:
    """Show a path whole, with what a terminal or a log must not see escaped."""
    return printable(str(path), 4096)
