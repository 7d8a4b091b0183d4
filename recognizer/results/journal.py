"""The journal: one line of JSON per image, in input order, appended in whole batches.

`Journal` writes it; `scan_journal` finds the whole batches of an earlier run, so that a run can be resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from memory.durable import sync_folder, try_lock
from recognizer.results.errors import REMEDY, OutputUnusable, ResumeRefused
from recognizer.results.row import Row, encode_row
from recognizer.results.sink import RunCounts, batch_keys

# A sync can take tens of milliseconds; without one for each batch, a power loss costs at most this many batches.
_SYNC_EVERY_BATCHES = 64
_AFTER_PATH = re.compile(rb'(?:,"path_b64":"[A-Za-z0-9+/=]*")?,"status":"(ok|error)"[,}]')


@dataclass(frozen=True, slots=True)
class BatchSpan:
    """The place of a batch in a journal, and its counts.

    Attributes:
        start: offset of its first byte.
        end: offset after its last byte.
        ok: number of rows with status ok.
        errors: number of rows with status error, by code.
    """

    start: int
    end: int
    ok: int
    errors: Counter[str] = field(default_factory=Counter)


class Journal:
    """A file of result rows to which whole batches are appended.

    An interrupted run leaves whole batches and at most one torn batch, which the next run cuts off. So the file of an
    interrupted and resumed run has the bytes of an uninterrupted one.

    Attributes:
        path: the file.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch.
        spans: the batches written so far, including those of earlier runs.
    """

    def __init__(self, path: Path, *, keys: Sequence[str], batch_size: int, overwrite: bool = False) -> None:
        """Open the file, keep the whole batches of an earlier run and cut off the rest.

        Args:
            path: the file; created if it is missing.
            keys: keys of all images of the run, in order.
            batch_size: images in a batch, at least 1.
            overwrite: drop the rows of an earlier run.

        Raises:
            OutputUnusable: the file cannot be written, or another run is writing it.
            ResumeRefused: the content of the file is not the beginning of this run's rows.
        """
        self.path = path
        self.keys = keys
        self.batch_size = batch_size
        self._stream = open_locked(path)
        try:
            self.spans = [] if overwrite else scan_journal(path, keys=keys, batch_size=batch_size)
            self._stream.truncate(self._end)
            self._stream.seek(self._end)
        except BaseException:
            self._stream.close()
            raise

    @property
    def done_rows(self) -> int:
        """Number of rows in whole batches."""
        return min(len(self.spans) * self.batch_size, len(self.keys))

    @property
    def _end(self) -> int:
        return self.spans[-1].end if self.spans else 0

    def append(self, rows: Sequence[Row]) -> None:
        """Write the next batch.

        Args:
            rows: the rows of its images, in order.

        Raises:
            ValueError: these are not the rows of the next batch.
            OutputUnusable: the disk refuses; the next run cuts off the torn batch.
        """
        data, ok, errors = encode_batch(rows, batch_keys(self.keys, len(self.spans), self.batch_size))
        try:
            write_all(self._stream, data)
            if (len(self.spans) + 1) % _SYNC_EVERY_BATCHES == 0:
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise disk_error(self.path, error, len(data)) from error
        self.spans.append(BatchSpan(self._end, self._end + len(data), ok, errors))

    def close(self) -> None:
        """Make the file durable and close it; closing twice does nothing."""
        if self._stream.closed:
            return
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise disk_error(self.path, error, 0) from error
        finally:
            self._stream.close()
        sync_folder(self.path.parent)


def scan_journal(path: Path, *, keys: Sequence[str], batch_size: int) -> list[BatchSpan]:
    """Find the whole batches of a journal.

    Anything after the last whole batch (a torn line, rows of a torn batch, zeros from a power failure) has no span;
    the caller cuts it off.

    Args:
        path: the journal; a missing one has no batches.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch; the last batch may have fewer.

    Returns:
        One span per batch, from the start of the file without a gap.

    Raises:
        ResumeRefused: a row belongs to another image than expected, or there are more rows than images.
    """
    spans: list[BatchSpan] = []
    if not path.exists():
        return spans
    start = position = rows = ok = 0
    errors: Counter[str] = Counter()
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"}\n") or b"\0" in line:
                _require_torn(path, line, rows)
                break
            code = _error_code(path, line, rows, keys)
            rows += 1
            position += len(line)
            ok += code is None
            errors.update([code] if code is not None else [])
            if rows % batch_size == 0 or rows == len(keys):
                spans.append(BatchSpan(start, position, ok, errors))
                start, ok, errors = position, 0, Counter()
    return spans


def _require_torn(path: Path, line: bytes, rows: int) -> None:
    """Refuse a line that is neither a row nor what an interrupted run leaves behind."""
    if line.endswith(b"\n") and b"\0" not in line:
        raise ResumeRefused(f"{path}, line {rows + 1}: this is not a result row; {REMEDY}")


def _error_code(path: Path, line: bytes, row: int, keys: Sequence[str]) -> str | None:
    """Return the error code of a row, None for status ok; refuse a row of another image.

    Other rows are not parsed, so that a large journal resumes quickly.
    """
    if row >= len(keys):
        raise ResumeRefused(f"{path} has more rows than the {len(keys)} images of this run; {REMEDY}")
    head = b'{"path":' + json.dumps(keys[row], ensure_ascii=False).encode("utf-8", "replace")
    status = _AFTER_PATH.match(line, len(head)) if line.startswith(head) else None
    if status is None:
        raise ResumeRefused(
            f"{path}, line {row + 1}: expected the row of {keys[row]!r}, found {_path_of(line)}; "
            f"the images differ from those of the earlier run: {REMEDY}"
        )
    return None if status[1] == b"ok" else str(json.loads(line)["error"]["code"])


def _path_of(line: bytes) -> str:
    try:
        return repr(json.loads(line)["path"])
    except (ValueError, KeyError, TypeError):
        return "a line that is not a result row"


def count_rows(spans: Sequence[BatchSpan]) -> RunCounts:
    """Sum the counts of batches."""
    return RunCounts(sum(span.ok for span in spans), sum((span.errors for span in spans), Counter[str]()))


def encode_batch(rows: Iterable[Row], keys: Sequence[str]) -> tuple[bytes, int, Counter[str]]:
    """Encode the rows of one batch.

    Args:
        rows: the rows.
        keys: keys of the images of the batch, in order.

    Returns:
        The lines, the number of rows with status ok, and the number of rows with status error by code.

    Raises:
        ValueError: the rows do not belong to `keys`.
    """
    rows = list(rows)
    if [row.path for row in rows] != list(keys):
        raise ValueError(f"a batch of {len(rows)} rows does not match its {len(keys)} images in order")
    errors = Counter(code for row in rows if (code := getattr(row, "code", None)) is not None)
    return b"".join(map(encode_row, rows)), len(rows) - errors.total(), errors


def open_locked(path: Path) -> IO[bytes]:
    """Open a file for reading and writing, unbuffered, as its only writer; its content stays.

    Raises:
        OutputUnusable: it cannot be opened or another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise OutputUnusable(f"{path}: cannot be written: {error.strerror}; choose another --output") from error
    stream = open(descriptor, "rb+", buffering=0)  # noqa: SIM115  the caller closes it
    is_ours = True
    with contextlib.suppress(OSError):  # a file system without locks
        is_ours = try_lock(descriptor)
    if not is_ours:
        stream.close()
        raise OutputUnusable(f"{path}: another run is writing this file; wait for it or stop it")
    return stream


def write_all(stream: IO[bytes], data: bytes) -> None:
    """Write every byte to an unbuffered stream, which may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def disk_error(path: Path, error: OSError, size: int) -> OutputUnusable:
    """Name the file, the system's reason and the size of a write that failed."""
    return OutputUnusable(
        f"{path}: writing {size} bytes failed: {error.strerror or error}; free some space, then repeat the command"
    )
