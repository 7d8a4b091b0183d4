"""The ledger: what vouches for each row of a journal, one line of JSON per row.

A line holds the hash of the row, and size, mtime and hash of its image. It is written together with the row, because it
answers both questions of a resumed run: is this row as it was written, and is this image still the one that was
recognised. `run.json` is rewritten as a whole and so has no room for a million images; in the rows, an mtime would
differ between runs that recognised the same.

Lines are only appended, so an image that was recognised again has several; the last one counts. Rows are found by their
hash, not by their place, so a ledger stays true when its journal is put into another order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from memory.durable import file_sha256, replacing, write_all
from recognizer.images.remote import head, is_remote
from recognizer.results.disk import disk_error, sync_stream

_CHECK = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\n\Z')
_DIGEST_BYTES = 16  # 128 bits: no two rows of a run share one by chance
_NO_FILE = -1


@dataclass(frozen=True, slots=True)
class ImageStamp:
    """What an image file was when it was recognised.

    Where a run reads rows instead of images, it is the stamp of a row.

    Attributes:
        size: in bytes; -1 where there was no file.
        mtime_ns: time of its last change.
        sha256: hex digest of its content; None if it could not be read.
    """

    size: int
    mtime_ns: int
    sha256: str | None = None

    @property
    def exists(self) -> bool:
        """Whether there was a file."""
        return self.size != _NO_FILE

    def is_untouched(self, now: ImageStamp) -> bool:
        """Tell whether a file whose stamp is `now` has the size and the mtime of this one, so need not be read."""
        return (self.size, self.mtime_ns) == (now.size, now.mtime_ns)

    def is_same(self, now: ImageStamp) -> bool:
        """Tell whether an image whose stamp is `now` has the content of this one."""
        return self == now if self.sha256 is None else self.sha256 == now.sha256


CurrentStamp = Callable[[int, ImageStamp], ImageStamp]
"""Returns the stamp of the image of a number, counted over the run; the other argument is the one that it had."""


def stamp_file(path: str | bytes) -> ImageStamp:
    """Return size and mtime of a file, which may be missing, or of an object of a store."""
    if is_remote(os.fsencode(path)):
        return ImageStamp(_NO_FILE, 0) if (found := head(os.fsencode(path))) is None else ImageStamp(*found)
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a path with a zero byte
        return ImageStamp(_NO_FILE, 0)
    return ImageStamp(status.st_size, status.st_mtime_ns)


def restamp_file(path: str | bytes, before: ImageStamp) -> ImageStamp:
    """Return the stamp of a file that had another one before.

    The file is read only if its size is the same and its mtime is not.
    """
    now = stamp_file(path)
    if before.is_untouched(now):
        return before
    if now.size != before.size or before.sha256 is None or is_remote(os.fsencode(path)):
        return now
    try:
        return replace(now, sha256=file_sha256(os.fsencode(path)))
    except OSError:  # a fresh run could not read it either
        return now


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger.

    Attributes:
        key: of the image.
        digest: of its row, as written.
        error: code of the error of its row; None for an image that was recognised.
        image: its file; None where that is unknown.
    """

    key: str
    digest: bytes
    error: str | None
    image: ImageStamp | None

    def to_line(self) -> bytes:
        """Return the line, which ends in a checksum of itself."""
        image = None if self.image is None else [self.image.size, self.image.mtime_ns, self.image.sha256]
        body = {"path": self.key, "row": self.digest.hex(), "error": self.error, "image": image}
        text = json.dumps(body, separators=(",", ":")).encode()[:-1]
        return b'%b,"crc32":"%08x"}\n' % (text, zlib.crc32(text))


def row_digest(line: bytes) -> bytes:
    """Hash a row, as it is written."""
    return hashlib.blake2b(line, digest_size=_DIGEST_BYTES).digest()


def parse_entry(line: bytes) -> LedgerEntry | None:
    """Read a line of the ledger; None if it is torn or damaged."""
    check = _CHECK.search(line)
    if check is None or int(check[1], 16) != zlib.crc32(line[: check.start()]):
        return None
    body: dict[str, Any] = json.loads(line)
    image = None if body["image"] is None else ImageStamp(*body["image"])
    return LedgerEntry(body["path"], bytes.fromhex(body["row"]), body["error"], image)


@dataclass(frozen=True, slots=True)
class LedgerContent:
    """What a ledger says.

    Attributes:
        entries: the last one of each image, by its key.
        damaged: number of damaged lines.
        torn: whether the last line is cut short.
    """

    entries: dict[str, LedgerEntry]
    damaged: int = 0
    torn: bool = False


def read_ledger(path: Path) -> LedgerContent:
    """Read a ledger; damaged lines are counted, and otherwise ignored."""
    entries: dict[str, LedgerEntry] = {}
    damaged = 0
    line = b"\n"
    with open(path, "rb") as stream:
        for line in stream:
            entry = parse_entry(line)
            if entry is not None:
                entries[entry.key] = entry
            elif line.endswith(b"\n"):
                damaged += 1
    return LedgerContent(entries, damaged, torn=not line.endswith(b"\n"))


def write_ledger(path: Path, entries: Iterable[LedgerEntry]) -> None:
    """Write a whole ledger in one step.

    Raises:
        WriteFailed: the disk refuses.
    """
    with replacing(path) as draft, open(draft, "wb") as stream:
        stream.writelines(entry.to_line() for entry in entries)


class Ledger:
    """The ledger of one journal, open for appending; the lock of the journal protects it too.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OutputUnusable: the disk refuses.
        """
        self.path = path
        try:
            self._stream: IO[bytes] = open(path, "ab", buffering=0)  # noqa: SIM115  closed by close
        except OSError as error:
            raise disk_error(path, error, 0) from error

    def append(self, entries: Sequence[LedgerEntry], *, sync: bool = False) -> None:
        """Add lines.

        Raises:
            OutputUnusable: the disk refuses.
        """
        data = b"".join(entry.to_line() for entry in entries)
        end = os.fstat(self._stream.fileno()).st_size
        try:
            write_all(self._stream, data)
            if sync:
                os.fsync(self._stream.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._stream.truncate(end)
            raise disk_error(self.path, error, len(data)) from error

    def close(self) -> None:
        """Make the file durable and close it; closing twice does nothing.

        Raises:
            OutputUnusable: the disk refuses.
        """
        if self._stream.closed:
            return
        try:
            sync_stream(self._stream, self.path)
        finally:
            self._stream.close()
