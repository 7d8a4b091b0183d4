"""The journal: one line of JSON per image, appended in the order in which the images were recognised.

`read_journal` finds the intact rows of earlier runs by image, so that a run can be resumed over a folder that has
changed in the meantime. At the end `Journal.arrange` puts the rows into the order of the listing, if they have another.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from memory.durable import replacing, sync_folder, write_all
from memory.errors import WriteFailed
from recognizer.results.disk import disk_error, open_locked, sync_stream
from recognizer.results.errors import REMEDY, OutputUnusable, ResumeRefused
from recognizer.results.ledger import (
    ImageStamp,
    Ledger,
    LedgerContent,
    LedgerEntry,
    read_ledger,
    row_digest,
    write_ledger,
)
from recognizer.results.lines import encode_row
from recognizer.results.row import ErrorRow, Row, box_key
from recognizer.results.sink import count_rows, require_complete

# A sync can take tens of milliseconds; without one for each batch, a power loss costs at most this many batches.
_SYNC_EVERY_BATCHES = 64


@dataclass(frozen=True, slots=True)
class JournalRow:
    """The place of an intact row in a journal.

    Attributes:
        start: offset of its first byte.
        end: offset after its last byte.
        entry: its line of the ledger.
    """

    start: int
    end: int
    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class JournalContent:
    """The intact rows of a journal.

    Attributes:
        rows: the last one of each image, by its key.
        end: offset after the last intact row; what follows is damaged, or was being written when a run was killed.
        damaged: number of images whose rows were written and are damaged or lost.
    """

    rows: dict[str, JournalRow]
    end: int
    damaged: int


class Journal:
    """A file of result rows to which whole batches are appended; `open_journal` makes one.

    Attributes:
        path: the file.
        ledger: vouches for its rows.
    """

    def __init__(self, stream: IO[bytes], path: Path, ledger: Ledger) -> None:
        """Take the file, locked and open for writing at its end."""
        self.path = path
        self.ledger = ledger
        self._stream = stream
        self._batches = 0

    def append(self, rows: Sequence[Row], images: Sequence[ImageStamp] | None = None) -> None:
        """Write the rows of a batch; all of them are on the file, or none.

        Args:
            rows: the rows.
            images: stamps of their images; None: unknown.

        Raises:
            OutputUnusable: the disk refuses; the rows written before are kept.
            ResultsIncomplete: the lines are not one for each row.
        """
        lines = encode_rows(rows)
        stamps: Sequence[ImageStamp | None] = images or [None] * len(rows)
        entries = [
            LedgerEntry(row.key, row_digest(line), row.code if isinstance(row, ErrorRow) else None, stamp)
            for row, line, stamp in zip(rows, lines, stamps, strict=True)
        ]
        data = b"".join(lines)
        end = self._stream.tell()
        self._batches += 1
        sync = self._batches % _SYNC_EVERY_BATCHES == 0
        try:
            write_all(self._stream, data)
            if sync:
                os.fsync(self._stream.fileno())
            self.ledger.append(entries, sync=sync)
        except (OSError, OutputUnusable) as error:
            with contextlib.suppress(OSError):  # it stays torn, and the next run cuts it off
                self._stream.truncate(end)
                self._stream.seek(end)
            if isinstance(error, OSError):
                raise disk_error(self.path, error, len(data)) from error
            raise

    def arrange(self, keys: Sequence[str]) -> None:
        """Keep the rows of these images only, in this order.

        A kill leaves the old file or the new one, and a ledger that vouches for the rows of both that count.

        Raises:
            OutputUnusable: the disk refuses, or a row has been damaged since it was written.
        """
        self.ledger.close()
        rows = read_journal(self.path, read_ledger(self.ledger.path)).rows
        lost = sum(key not in rows for key in keys)
        if lost:
            raise OutputUnusable(f"{lost} rows of {self.path} were damaged while it was written; check the disk")
        # First the ledger: rows that it does not know are ignored, but a row that it knows and that is gone is damage.
        write_ledger(self.ledger.path, (rows[key].entry for key in keys))
        with replacing(self.path) as draft, open(draft, "wb") as new:
            for key in keys:
                self._stream.seek(rows[key].start)
                new.write(self._stream.read(rows[key].end - rows[key].start))

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
            self.ledger.close()
        sync_folder(self.path.parent)


def open_journal(path: Path, ledger_path: Path, *, overwrite: bool = False) -> tuple[Journal, JournalContent]:
    """Open a journal and cut off what follows its last intact row.

    Args:
        path: the file; created if it is missing.
        ledger_path: of its ledger; created if it is missing, for the rows that are there.
        overwrite: drop the rows of earlier runs.

    Returns:
        The journal, and the rows of earlier runs.

    Raises:
        OutputUnusable: the file cannot be written, or another run is writing it.
        ResumeRefused: the file holds something else than rows.
        WriteFailed: the disk refuses.
    """
    stream = open_locked(path)
    try:
        if overwrite:
            stream.truncate(0)
            os.fsync(stream.fileno())  # or a power loss could bring rows back that were made under other settings
            ledger_path.unlink(missing_ok=True)
        vouched = read_ledger(ledger_path) if ledger_path.exists() else vouch_for(path)
        if vouched.damaged or vouched.torn or not ledger_path.exists():
            write_ledger(ledger_path, vouched.entries.values())
        content = read_journal(path, vouched)
        stream.truncate(content.end)
        stream.seek(content.end)
        return Journal(stream, path, Ledger(ledger_path)), content
    except BaseException as error:
        stream.close()
        if isinstance(error, OSError) and not isinstance(error, WriteFailed):
            raise disk_error(path, error, 0) from error
        raise


def read_journal(path: Path, ledger: LedgerContent) -> JournalContent:
    """Find the rows of a journal that its ledger vouches for.

    All other lines are ignored: rows that a later one of the same image has replaced, damaged ones, and what a killed
    run or a power failure leaves at the end.
    """
    keys = {entry.digest: key for key, entry in ledger.entries.items()}
    rows: dict[str, JournalRow] = {}
    start = end = 0
    with open(path, "rb") as stream:
        for line in stream:
            key = keys.get(row_digest(line))
            if key is not None:
                end = start + len(line)
                rows[key] = JournalRow(start, end, ledger.entries[key])
            start += len(line)
    return JournalContent(rows, end, len(keys) - len(rows) + ledger.damaged)


def vouch_for(path: Path) -> LedgerContent:
    """Make the ledger of a journal that has none, because an earlier release wrote it or somebody deleted the ledger.

    Lines that are not valid JSON are damaged; nothing is known of the images.

    Raises:
        ResumeRefused: the file holds something else than rows.
    """
    entries: dict[str, LedgerEntry] = {}
    damaged = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if b"\0" in line or not line.endswith(b"\n"):  # of a power failure or a kill
                continue
            if not line.endswith(b"}\n"):
                raise _not_a_row(path, number)
            try:
                row = json.loads(line)
            except ValueError:
                damaged += 1
                continue
            entry = _entry_of(row, line)
            if entry is None:
                raise _not_a_row(path, number)
            entries[entry.key] = entry
    return LedgerContent(entries, damaged)


def _entry_of(row: Any, line: bytes) -> LedgerEntry | None:  # noqa: ANN401  any JSON value
    try:
        error = str(row["error"]["code"]) if row["status"] == "error" else None
        box = row.get("box")
        key = box_key(str(row["path"]), None if box is None else str(box["id"]))
        return LedgerEntry(key, row_digest(line), error, None)
    except (TypeError, KeyError, AttributeError):
        return None


def _not_a_row(path: Path, number: int) -> ResumeRefused:
    return ResumeRefused(f"{path}, line {number}: this is not a result row; {REMEDY}")


def encode_rows(rows: Sequence[Row]) -> list[bytes]:
    """Encode the rows of a batch, one line each.

    Raises:
        ResultsIncomplete: the lines are not one for each row.
    """
    lines = [encode_row(row) for row in rows]
    require_complete(len(rows), count_rows(rows), lines=sum(line.count(b"\n") for line in lines))
    return lines
