"""The ledger: what vouches for each batch of a journal, one line of JSON per batch.

A line holds the length and hash of the batch's rows, and size, mtime and hash of each of its images. It is written
together with the rows, because it answers both questions of a resumed run: are these rows as they were written, and
are these images still those that were recognised. `run.json` is rewritten as a whole and so has no room for a million
images; in the rows, an mtime would differ between runs that recognised the same.

A retried batch has several lines for a moment; the rows match one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

from memory.durable import file_sha256, replacing, sync_folder, write_all
from recognizer.results.disk import disk_error, sync_stream
from recognizer.results.errors import OutputUnusable

_CHECK = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\n\Z')


ImagePath = Callable[[int], str | bytes]
"""Returns the file of the image of that number, counted over the run."""


@dataclass(frozen=True, slots=True)
class ImageStamp:
    """What an image file was when it was recognised.

    Attributes:
        size: in bytes.
        mtime_ns: time of its last change.
        sha256: hex digest of its content; None if it could not be read.
    """

    size: int
    mtime_ns: int
    sha256: str | None = None


def stamp_file(path: str | bytes) -> ImageStamp | None:
    """Return size and mtime of a file; None if it is missing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a path with a zero byte
        return None
    return ImageStamp(status.st_size, status.st_mtime_ns)


def has_changed(path: str | bytes, stamp: ImageStamp | None) -> bool:
    """Tell whether a file holds another image than the one that was recognised.

    The file is read only if its size is the same and its mtime is not. One that is gone has not changed: its row stays.
    """
    now = stamp_file(path)
    if now is None or stamp is None:
        return now is not None
    if now.size != stamp.size or stamp.sha256 is None:
        return (now.size, now.mtime_ns) != (stamp.size, stamp.mtime_ns)
    try:
        return now.mtime_ns != stamp.mtime_ns and file_sha256(os.fsencode(path)) != stamp.sha256
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One line of the ledger.

    Attributes:
        batch: number of the batch.
        rows: how many rows it has.
        size: their length in bytes.
        sha256: their hex digest.
        images: per image its stamp, None for a missing file; None if the images are unknown.
    """

    batch: int
    rows: int
    size: int
    sha256: str
    images: Sequence[ImageStamp | None] | None

    @classmethod
    def of(cls, batch: int, rows: int, data: bytes, images: Sequence[ImageStamp | None] | None) -> BatchRecord:
        """Vouch for the rows of a batch, as they are written."""
        return cls(batch, rows, len(data), hashlib.sha256(data).hexdigest(), images)

    def matches(self, data: bytes) -> bool:
        """Tell whether these are the rows."""
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256

    def to_line(self) -> bytes:
        """Return the line, which ends in a checksum of itself."""
        images = None if self.images is None else [None if image is None else astuple(image) for image in self.images]
        body = {"batch": self.batch, "rows": self.rows, "bytes": self.size, "sha256": self.sha256, "images": images}
        text = json.dumps(body, separators=(",", ":")).encode()[:-1]
        return b'%b,"crc32":"%08x"}\n' % (text, zlib.crc32(text))


def parse_record(line: bytes) -> BatchRecord | None:
    """Read a line of the ledger; None if it is torn or damaged."""
    check = _CHECK.search(line)
    if check is None or int(check[1], 16) != zlib.crc32(line[: check.start()]):
        return None
    body: dict[str, Any] = json.loads(line)
    images = body["images"]
    stamps = None if images is None else [None if image is None else ImageStamp(*image) for image in images]
    return BatchRecord(body["batch"], body["rows"], body["bytes"], body["sha256"], stamps)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A batch as it stands in a journal.

    Attributes:
        start: offset of its first byte.
        data: its bytes.
        record: what vouches for them; None if nothing does, because they or their line in the ledger are damaged.
    """

    start: int
    data: bytes
    record: BatchRecord | None


class Ledger:
    """The ledger of one journal, whose lock protects it too.

    Attributes:
        path: the file.
        batches: number of batches that it knows of.
    """

    def __init__(self, path: Path) -> None:
        """Read where the lines of each batch are; a missing file has none."""
        self.path = path
        self._places: dict[int, list[int]] = {}
        self._stream: IO[bytes] | None = None
        self._valid = True  # no torn or damaged line, no gap, no second line of a batch
        position = 0
        for line in _lines(path):
            record = parse_record(line)
            self._valid = self._valid and record is not None and record.batch == len(self._places)
            if record is not None:
                self._places.setdefault(record.batch, []).append(position)
            position += len(line)
        self.batches = max(self._places, default=-1) + 1

    def stretches(self, journal: Path, batch_size: int) -> Iterator[Stretch]:
        """Walk through the batches of a journal that the ledger knows of, up to the first one that is cut short.

        Args:
            journal: the file with the rows.
            batch_size: rows of a batch; finds the end of a batch whose line in the ledger is damaged.
        """
        if not self.batches or not journal.exists():
            return
        start = 0
        with open(journal, "rb") as rows, open(self.path, "rb") as lines:
            for batch in range(self.batches):
                records = {place: _record_at(lines, place) for place in self._places.get(batch, [])}
                stretch = _stretch(rows, start, list(records.values()), batch_size)
                if stretch is None:
                    return
                if stretch.record is not None:
                    self._places[batch] = [place for place, record in records.items() if record is stretch.record]
                yield stretch
                start += len(stretch.data)

    def open(self, batches: int) -> None:
        """Open the file for appending, once there are lines of no more than the first `batches` batches.

        Args:
            batches: how many batches the journal has from now on.

        Raises:
            WriteFailed, OutputUnusable: the disk refuses.
        """
        if not self._valid or self.batches > batches:
            self._rewrite(batches)
        existed = self.path.exists()
        try:
            self._stream = open(self.path, "ab", buffering=0)  # noqa: SIM115  closed by close
        except OSError as error:
            raise disk_error(self.path, error, 0) from error
        if not existed:
            sync_folder(self.path.parent)

    def append(self, records: Sequence[BatchRecord], *, sync: bool = False) -> None:
        """Add lines.

        Raises:
            OutputUnusable: the disk refuses.
        """
        if self._stream is None:
            raise ValueError(f"{self.path} is not open")
        data = b"".join(record.to_line() for record in records)
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
        """Make the file durable and close it; closing twice does nothing."""
        if self._stream is None:
            return
        try:
            sync_stream(self._stream, self.path)
        finally:
            self._stream.close()
            self._stream = None

    def _rewrite(self, batches: int) -> None:
        """Drop torn lines, those of later batches, and those that an intact batch no longer matches."""
        with replacing(self.path) as draft, open(self.path, "rb") as old, open(draft, "wb") as new:
            for batch in range(min(batches, self.batches)):
                for place in self._places.get(batch, []):
                    old.seek(place)
                    new.write(old.readline())


def first_changed(record: BatchRecord, start: int, image_path: ImagePath) -> int | None:
    """Return the number of the first image of a batch that has changed, or None; `start` is that of its first image."""
    for number, stamp in enumerate(record.images or (), start):
        if has_changed(image_path(number), stamp):
            return number
    return None


def read_ledger(path: Path) -> Iterator[BatchRecord]:
    """Yield the intact lines of a ledger; a missing file has none."""
    for line in _lines(path):
        record = parse_record(line)
        if record is not None:
            yield record


def write_ledger(path: Path, records: Iterable[BatchRecord]) -> None:
    """Write a whole ledger in one step.

    Raises:
        WriteFailed: the disk refuses.
    """
    with replacing(path) as draft:
        draft.write_bytes(b"".join(record.to_line() for record in records))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as stream:
            yield from stream
    except FileNotFoundError:
        return


def _record_at(stream: IO[bytes], place: int) -> BatchRecord:
    stream.seek(place)
    record = parse_record(stream.readline())
    if record is None:
        raise OutputUnusable(f"{stream.name} has changed while it was read; repeat the command")
    return record


def _stretch(rows: IO[bytes], start: int, records: Sequence[BatchRecord], batch_size: int) -> Stretch | None:
    """Find the batch that starts there; None if the file ends before the batch does."""
    for record in reversed(records):
        rows.seek(start)
        data = rows.read(record.size)
        if record.matches(data):
            return Stretch(start, data, record)
    rows.seek(start)
    if records:
        data = rows.read(records[-1].size)
        return Stretch(start, data, None) if len(data) == records[-1].size else None
    data = b"".join(rows.readline() for _ in range(batch_size))
    return Stretch(start, data, None) if data.endswith(b"\n") else None
