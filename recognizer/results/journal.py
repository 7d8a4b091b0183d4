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
from typing import Literal

from memory.durable import sync_folder, write_all
from recognizer.results.disk import disk_error, open_locked, sync_stream
from recognizer.results.errors import REMEDY, OutputUnusable, ResumeRefused
from recognizer.results.ledger import BatchRecord, ImagePath, ImageStamp, Ledger, first_changed, write_ledger
from recognizer.results.row import ErrorRow, ResultRow, Row, encode_row
from recognizer.results.sink import RunCounts, batch_at, batch_count, batch_keys, require_complete

# A sync can take tens of milliseconds; without one for each batch, a power loss costs at most this many batches.
_SYNC_EVERY_BATCHES = 64
_AFTER_PATH = re.compile(rb'(?:,"path_b64":"[A-Za-z0-9+/=]*")?,"status":"(ok|below|error)"[,}]')


@dataclass(frozen=True, slots=True)
class BatchSpan:
    """The place of a batch in a journal, and its counts.

    Attributes:
        start: offset of its first byte.
        end: offset after its last byte.
        ok: number of rows with status ok.
        errors: number of rows with status error, by code.
        state: `damaged`: its bytes are not those that were written; `changed`: an image of it is another one now.
    """

    start: int
    end: int
    ok: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    state: Literal["good", "damaged", "changed"] = "good"


class Journal:
    """A file of result rows to which whole batches are appended.

    An interrupted run leaves whole batches and at most one torn batch, which the next run cuts off. So the file of an
    interrupted and resumed run has the bytes of an uninterrupted one.

    Attributes:
        path: the file.
        ledger: vouches for its batches.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch.
        spans: the batches written so far, including those of earlier runs.
        damaged: numbers of the batches of earlier runs that are damaged, also of those that were cut off for it.
    """

    def __init__(
        self,
        path: Path,
        *,
        ledger_path: Path,
        keys: Sequence[str],
        batch_size: int,
        image_path: ImagePath | None = None,
        overwrite: bool = False,
    ) -> None:
        """Open the file, keep the whole batches of an earlier run and cut off the rest.

        Args:
            path: the file; created if it is missing.
            ledger_path: of its ledger; created if it is missing, for the rows that are there.
            keys: keys of all images of the run, in order.
            batch_size: images in a batch, at least 1.
            image_path: finds the images, to see whether they have changed; None: they are not compared.
            overwrite: drop the rows of an earlier run.

        Raises:
            OutputUnusable: the file cannot be written, or another run is writing it.
            ResumeRefused: the content of the file is not the beginning of this run's rows.
        """
        self.path = path
        self.keys = keys
        self.batch_size = batch_size
        self.spans: list[BatchSpan] = []
        self._stream = open_locked(path)
        try:
            if overwrite:
                self._cut_off(0)
                ledger_path.unlink(missing_ok=True)
            elif not ledger_path.exists():
                vouch_for(path, ledger_path, keys=keys, batch_size=batch_size)
            self.ledger = Ledger(ledger_path)
            self.spans = scan_journal(path, self.ledger, keys=keys, batch_size=batch_size, image_path=image_path)
            self.damaged = [number for number, span in enumerate(self.spans) if span.state == "damaged"]
            while self.spans and self.spans[-1].state == "damaged":
                self.spans.pop()
            self._cut_off(self._end)
            self.ledger.open(len(self.spans))
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

    def _cut_off(self, end: int) -> None:
        """Continue at a place, and drop what comes after it."""
        try:
            self._stream.truncate(end)
        except OSError as error:
            raise disk_error(self.path, error, 0) from error
        self._stream.seek(end)

    def append(self, rows: Sequence[Row], images: Sequence[ImageStamp | None] | None = None) -> None:
        """Write the next batch.

        Args:
            rows: the rows of its images, in order.
            images: stamps of its images; None: unknown.

        Raises:
            ValueError: these are not the rows of the next batch.
            OutputUnusable: the disk refuses; the rows written before are kept.
        """
        number = len(self.spans)
        data, ok, errors = encode_batch(rows, batch_keys(self.keys, number, self.batch_size))
        sync = (number + 1) % _SYNC_EVERY_BATCHES == 0
        try:
            write_all(self._stream, data)
            if sync:
                os.fsync(self._stream.fileno())
            self.ledger.append([BatchRecord.of(number, len(rows), data, images)], sync=sync)
        except (OSError, OutputUnusable) as error:
            with contextlib.suppress(OSError):  # it stays torn, and the next run cuts it off
                self._stream.truncate(self._end)
                self._stream.seek(self._end)
            if isinstance(error, OSError):
                raise disk_error(self.path, error, len(data)) from error
            raise
        self.spans.append(BatchSpan(self._end, self._end + len(data), ok, errors))

    def close(self) -> None:
        """Make the file durable and close it; closing twice does nothing."""
        if self._stream.closed:
            return
        try:
            sync_stream(self._stream, self.path)
        finally:
            self._stream.close()
            self.ledger.close()
        sync_folder(self.path.parent)


def scan_journal(
    path: Path, ledger: Ledger, *, keys: Sequence[str], batch_size: int, image_path: ImagePath | None = None
) -> list[BatchSpan]:
    """Find the whole batches of a journal that its ledger knows of.

    Anything after the last one (a torn line, rows of a torn batch, zeros from a power failure) has no span; the caller
    cuts it off.

    Args:
        path: the journal; a missing one has no batches.
        ledger: of the journal.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch; the last batch may have fewer.
        image_path: finds the images; None: they are not compared with those that were recognised.

    Returns:
        One span per batch, from the start of the file without a gap.

    Raises:
        ResumeRefused: a row belongs to another image than expected, or there are more rows than images.
    """
    spans: list[BatchSpan] = []
    for number, stretch in enumerate(ledger.stretches(path, batch_size)):
        end = stretch.start + len(stretch.data)
        batch = batch_at(number, len(keys), batch_size)
        if stretch.record is None:
            spans.append(BatchSpan(stretch.start, end, state="damaged"))
            continue
        codes = [
            _error_code(path, line, batch.start + row, keys)
            for row, line in enumerate(stretch.data.splitlines(keepends=True))
        ]
        if len(codes) < batch.stop - batch.start:
            break  # the last batch of a run that had fewer images
        errors = Counter(code for code in codes if code is not None)
        changed = image_path is not None and first_changed(stretch.record, batch.start, image_path) is not None
        state: Literal["good", "changed"] = "changed" if changed else "good"
        spans.append(BatchSpan(stretch.start, end, len(codes) - errors.total(), errors, state))
    if len(spans) > batch_count(len(keys), batch_size):
        raise _too_many(path, keys)
    return spans


def vouch_for(path: Path, ledger_path: Path, *, keys: Sequence[str], batch_size: int) -> None:
    """Make the ledger of a journal that has none, because an earlier release wrote it or somebody deleted the ledger.

    Batches with a line that is not valid JSON are left to be done again.

    Raises:
        ResumeRefused: a row belongs to another image than expected, or there are more rows than images.
        WriteFailed: the disk refuses.
    """
    lines: list[bytes] = []
    records: list[BatchRecord] = []
    row = 0
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"}\n") or b"\0" in line:
                _require_torn(path, line, row)
                break
            _error_code(path, line, row, keys)
            lines.append(line)
            row += 1
            if row % batch_size == 0 or row == len(keys):
                if all(map(_is_json, lines)):
                    number = (row - 1) // batch_size
                    records.append(BatchRecord.of(number, len(lines), b"".join(lines), None))
                lines.clear()
    write_ledger(ledger_path, records)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _require_torn(path: Path, line: bytes, rows: int) -> None:
    """Refuse a line that is neither a row nor what an interrupted run leaves behind."""
    if line.endswith(b"\n") and b"\0" not in line:
        raise ResumeRefused(f"{path}, line {rows + 1}: this is not a result row; {REMEDY}")


def _error_code(path: Path, line: bytes, row: int, keys: Sequence[str]) -> str | None:
    """Return the error code of a row, None for status ok; refuse a row of another image.

    Other rows are not parsed, so that a large journal resumes quickly.
    """
    if row >= len(keys):
        raise _too_many(path, keys)
    head = b'{"path":' + json.dumps(keys[row], ensure_ascii=False).encode("utf-8", "replace")
    status = _AFTER_PATH.match(line, len(head)) if line.startswith(head) else None
    if status is None:
        raise ResumeRefused(
            f"{path}, line {row + 1}: expected the row of {keys[row]!r}, found {_path_of(line)}; "
            f"the images differ from those of the earlier run: {REMEDY}"
        )
    return None if status[1] != b"error" else str(json.loads(line)["error"]["code"])


def _too_many(path: Path, keys: Sequence[str]) -> ResumeRefused:
    return ResumeRefused(f"{path} has more rows than the {len(keys)} images of this run; {REMEDY}")


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
        ResultsIncomplete: the lines are not one row with status ok or error for each image.
    """
    rows = list(rows)
    if [row.path for row in rows] != list(keys):
        raise ValueError(f"a batch of {len(rows)} rows does not match its {len(keys)} images in order")
    ok = sum(isinstance(row, ResultRow) for row in rows)
    errors = Counter(row.code for row in rows if isinstance(row, ErrorRow))
    data = b"".join(map(encode_row, rows))
    require_complete(len(keys), RunCounts(ok, errors), lines=data.count(b"\n"))
    return data, ok, errors
