"""The errors of this package, and texts made safe to print.

MemoryStoreError
├── LabelError          a label file cannot be read
├── MemoryNotFound      there is no memory in this directory
├── MemoryDamaged       a file is missing, or its content has changed since it was written
├── SchemaTooNew        a newer release wrote the memory
├── MemoryLocked        another process is writing to the memory
├── EncoderMismatch     another encoder made the memory
├── BadVectors          an encoder returned vectors that cannot be stored
├── ObjectStoreError    an object store does not answer, or refuses
├── PublishedMeanwhile  another writer on an object store was first
└── UnknownCategory     a name or id matches no category of the memory, or several
WriteFailed (OSError)   a file cannot be written
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
        self.message = message
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
    """A file of the memory is missing, or is not the file that MEMORY.json lists."""


class SchemaTooNew(MemoryStoreError):
    """A newer release wrote the memory."""


class MemoryLocked(MemoryStoreError):
    """Another process is writing to the memory."""


class EncoderMismatch(MemoryStoreError):
    """Another encoder made the memory."""


class BadVectors(MemoryStoreError):
    """Vectors that are not finite, not of unit length, or of the wrong shape."""


class ObjectStoreError(MemoryStoreError):
    """An object store that does not answer or refuses, or an address that is not one."""


class PublishedMeanwhile(MemoryStoreError):
    """Another writer published a version of the memory since this one began."""


class UnknownCategory(MemoryStoreError):
    """A name or id that matches no category, or several."""


class WriteFailed(OSError):
    """A file cannot be written; the message names it. An earlier file of that name is unchanged."""


def printable(text: str, limit: int = 80) -> str:
    """Escape characters that must not reach a terminal or a log, and shorten the text with an ellipsis.

    Args:
        text: any text, also one with lone surrogates.
        limit: length of the result at most.
    """
    # No character gets shorter, so the rest of a long text need not be escaped.
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def printable_path(path: str | Path) -> str:
    """Escape a path as `printable` does, without shortening it."""
    # The longest path of Linux has 4,096 bytes; an escaped byte takes six characters.
    return printable(str(path), 6 * 4096)
