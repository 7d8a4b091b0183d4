"""Do batches again: those with failed images, changed images or damaged rows; all others stay byte for byte."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from memory.durable import sync_folder, write_all
from recognizer.results.disk import disk_error, open_locked
from recognizer.results.journal import BatchSpan, encode_batch
from recognizer.results.ledger import BatchRecord, ImageStamp, Ledger
from recognizer.results.row import Row
from recognizer.results.sink import batch_keys

_COPY_BYTES = 1 << 20


class JournalPatch:
    """Replaces batches of a journal.

    The new file grows beside the old one and replaces it in one step after the last batch. Until then the old file is
    unchanged; an interrupted retry starts again from the first batch.

    Attributes:
        pending: numbers of the batches to replace, ascending.
    """

    def __init__(
        self,
        path: Path,
        *,
        ledger_path: Path,
        keys: Sequence[str],
        batch_size: int,
        spans: Sequence[BatchSpan],
        pending: Sequence[int],
    ) -> None:
        """Lock the journal and begin the new file.

        Args:
            path: the journal.
            ledger_path: of its ledger.
            keys: keys of all images of the run, in order.
            batch_size: images in a batch.
            spans: the batches of the journal, up to its end.
            pending: numbers of the batches to replace, ascending.

        Raises:
            OutputUnusable: the file cannot be written, or another run is writing it.
        """
        self.pending = list(pending)
        self._path = path
        self._ledger_path = ledger_path
        self._records: list[BatchRecord] = []
        self._keys = keys
        self._batch_size = batch_size
        self._spans = spans
        self._waiting = list(self.pending)
        self._draft_path = retry_draft_path(path)
        self._old = open_locked(path)
        try:
            self._draft = open(self._draft_path, "wb", buffering=0)  # noqa: SIM115  closed by finish and close
        except OSError as error:
            self._old.close()
            raise disk_error(self._draft_path, error, 0) from error

    def replace(self, batch: int, rows: Sequence[Row], images: Sequence[ImageStamp | None] | None = None) -> None:
        """Write the new rows of a batch.

        Args:
            batch: the first of `pending` that is not yet replaced.
            rows: the rows of its images, in order.
            images: stamps of its images; None: unknown.

        Raises:
            ValueError: another batch is next, or the rows do not belong to its images.
            OutputUnusable: the disk refuses.
        """
        if not self._waiting or batch != self._waiting[0]:
            raise ValueError(f"batch {batch} is out of turn; the next batches to retry are {self._waiting[:3]}")
        data, _, _ = encode_batch(rows, batch_keys(self._keys, batch, self._batch_size))
        self._copy_until(self._spans[batch].start)
        try:
            write_all(self._draft, data)
        except OSError as error:
            raise disk_error(self._draft_path, error, len(data)) from error
        self._records.append(BatchRecord.of(batch, len(rows), data, images))
        self._old.seek(self._spans[batch].end)
        self._waiting.pop(0)

    def finish(self) -> None:
        """Replace the old file by the new one.

        Raises:
            ValueError: a batch is still to be replaced.
            OutputUnusable: the disk refuses.
        """
        if self._waiting:
            raise ValueError(f"{len(self._waiting)} batches are still to be retried")
        self._copy_until(self._spans[-1].end if self._spans else 0)
        try:
            os.fsync(self._draft.fileno())
            self._draft.close()
            # First the ledger: it then vouches for the old and the new rows of a batch, whichever a power loss leaves.
            ledger = Ledger(self._ledger_path)
            ledger.open(len(self._spans))
            ledger.append(self._records)
            ledger.close()
            os.replace(self._draft_path, self._path)
        except OSError as error:
            raise disk_error(self._path, error, 0) from error
        sync_folder(self._path.parent)
        self.close()

    def close(self) -> None:
        """Delete an unfinished new file and unlock the old one; closing twice does nothing."""
        self._old.close()
        self._draft.close()
        with contextlib.suppress(OSError):  # the next run deletes it
            self._draft_path.unlink(missing_ok=True)

    def _copy_until(self, end: int) -> None:
        left = end - self._old.tell()
        try:
            while left > 0 and (chunk := self._old.read(min(left, _COPY_BYTES))):
                write_all(self._draft, chunk)
                left -= len(chunk)
        except OSError as error:
            raise disk_error(self._draft_path, error, left) from error


def retry_draft_path(path: Path) -> Path:
    """Return the path of a retry's new file; a file there is a leftover of an interrupted retry."""
    return path.with_name(f".{path.name}.retry")
