"""Write the results of a run to files that can be resumed.

Rows are appended to the journal, and its ledger vouches for them; `OUTPUT.run.json` and `OUTPUT.timing.jsonl` stand
beside it; CSV and Parquet are converted from the journal at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from memory.errors import WriteFailed
from recognizer.results.disk import disk_error
from recognizer.results.errors import REMEDY, OutputUnusable, ResumeRefused
from recognizer.results.journal import Journal, count_rows
from recognizer.results.ledger import ImagePath, ImageStamp, first_changed, read_ledger
from recognizer.results.retry import JournalPatch, retry_draft_path
from recognizer.results.row import Row
from recognizer.results.run_files import RunFiles, TimingLog
from recognizer.results.run_info import (
    RunInfo,
    finish_run_info,
    require_same_settings,
    write_run_info,
)
from recognizer.results.sink import Batch, BatchTiming, RunCounts, batch_at, batch_count, require_complete
from recognizer.results.tables import write_csv, write_parquet


class ResultWriter:
    """Writes the files of one run, batch by batch.

    Attributes:
        files: their paths.
        info: what made the output.
    """

    def __init__(
        self,
        files: RunFiles,
        info: RunInfo,
        keys: Sequence[str],
        *,
        overwrite: bool,
        retry_errors: bool,
        image_path: ImagePath | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Compare with an earlier run, then open the journal."""
        self.files = files
        self.info = info
        self._keys = keys
        before = files.read_info()
        earlier = None if overwrite else _earlier_run(files, info)
        self._complete = earlier is not None and _is_converted(files, earlier)
        if self._complete and earlier is not None:
            _require_same_images(files, earlier, keys, image_path)
            self.info = earlier
            return
        self._journal = self._open_journal(image_path, overwrite=overwrite)
        self._patch: JournalPatch | None = None
        self._again: list[int] = []
        try:
            if files.read_info() != before:  # before the journal was locked
                raise ResumeRefused(f"{files.output}: another run has just written this file; repeat the command")
            _delete_leftover(retry_draft_path(files.journal))
            if earlier is not None:
                self.info = replace(info, started=earlier.started, resumed=earlier.resumed + 1)
            write_run_info(files.info, self.info)
            self._timing = TimingLog(files.timing, overwrite=earlier is None)
            self._start_patch(retry_errors=retry_errors, warn=warn)
        except BaseException:
            self._journal.close()
            raise

    @property
    def done_rows(self) -> int:
        """Number of rows that are written and will not be done again, including those of earlier runs."""
        if self._complete:
            return self.info.count
        again = self._patch.pending if self._patch is not None else []
        sizes = [batch_at(number, len(self._keys), self.info.batch_size) for number in again]
        return self._journal.done_rows - sum(batch.stop - batch.start for batch in sizes)

    def pending(self) -> Iterator[Batch]:
        """Yield the batches to do: those to do again, then the new ones; may be read ahead."""
        if self._complete:
            return
        first_new = len(self._journal.spans)
        for number in [*self._again, *range(first_new, batch_count(len(self._keys), self.info.batch_size))]:
            yield batch_at(number, len(self._keys), self.info.batch_size)

    def write(
        self,
        batch: int,
        rows: Sequence[Row],
        *,
        timing: BatchTiming | None = None,
        images: Sequence[ImageStamp | None] | None = None,
    ) -> None:
        """Write the rows of the next batch.

        Args:
            batch: its number, in the order of `pending`.
            rows: the rows of its images, in order.
            timing: written to the log of timings, with the seconds of this call.
            images: what its image files were when they were recognised; None: unknown.

        Raises:
            ValueError: another batch is next, or the rows do not belong to its images.
            OutputUnusable: the disk refuses.
        """
        started = time.perf_counter()
        if self._patch is not None:
            self._patch.replace(batch, rows, images)
            if batch == self._patch.pending[-1]:
                self._finish_patch()
        elif self._complete or batch != len(self._journal.spans):
            raise ValueError(f"batch {batch} is out of turn; write the batches in the order of pending()")
        else:
            self._journal.append(rows, images)
        if timing is not None:
            self._timing.write(batch, len(rows), timing, write_s=time.perf_counter() - started)

    def finish(self) -> RunCounts:
        """Complete the run: make the rows durable, convert them to CSV or Parquet, mark the run as finished.

        The journal of a CSV or Parquet output is removed, unless it has error rows: a retry needs it.

        Returns:
            Counts over all rows of the output.

        Raises:
            ValueError: batches are missing.
            ResultsIncomplete: the rows are not one for each image.
            OutputUnusable: the disk refuses.
        """
        if self._complete:
            counts = RunCounts(self.info.counts["ok"], self.info.errors)
            require_complete(len(self._keys), counts)
            return counts
        if self._patch is not None or self._journal.done_rows < len(self._keys):
            raise ValueError(f"{self.done_rows} of {len(self._keys)} rows are written; the run is not finished")
        counts = count_rows(self._journal.spans)
        require_complete(len(self._keys), counts)
        self.close()
        try:
            if self.info.format == "csv":
                write_csv(self.files.journal, self.files.output)
            elif self.info.format == "parquet":
                write_parquet(self.files.journal, self.files.output)
            self.info = finish_run_info(self.info, counts)
            write_run_info(self.files.info, self.info)
        except WriteFailed as error:
            raise OutputUnusable(
                f"{error}; all rows are safe in {self.files.journal}: free about as much space as it takes "
                f"({self.files.journal.stat().st_size} bytes), then repeat the command"
            ) from error
        if self.files.journal != self.files.output and not counts.failed:
            _delete_leftover(self.files.journal)
        return counts

    def close(self) -> None:
        """Close the files; the run can be resumed. Closing twice does nothing."""
        if self._complete:
            return
        if self._patch is not None:
            self._patch.close()
        self._journal.close()
        self._timing.close()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _open_journal(self, image_path: ImagePath | None = None, *, overwrite: bool = False) -> Journal:
        return Journal(
            self.files.journal,
            ledger_path=self.files.ledger,
            keys=self._keys,
            batch_size=self.info.batch_size,
            image_path=image_path,
            overwrite=overwrite,
        )

    def _start_patch(self, *, retry_errors: bool, warn: Callable[[str], None] | None) -> None:
        """Prepare to do batches again, if there are any, and say why."""
        spans = self._journal.spans
        changed = [number for number, span in enumerate(spans) if span.state == "changed"]
        for numbers, reason in ((self._journal.damaged, "are damaged"), (changed, "have images that changed")):
            if numbers and warn is not None:
                shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
                warn(f"{len(numbers)} batches of {self.files.journal} {reason} and are done again (number {shown})")
        again = [i for i, span in enumerate(spans) if span.state != "good" or (retry_errors and span.errors)]
        if not again:
            return
        self._journal.close()
        self._patch = JournalPatch(
            self.files.journal,
            ledger_path=self.files.ledger,
            keys=self._keys,
            batch_size=self.info.batch_size,
            spans=list(spans),
            pending=again,
        )
        self._again = self._patch.pending

    def _finish_patch(self) -> None:
        if self._patch is not None:
            self._patch.finish()
            self._patch = None
            self._journal = self._open_journal()
            if self._journal.damaged:
                raise OutputUnusable(f"{self.files.journal} was damaged again while it was written; check the disk")


def _delete_leftover(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(path, error, 0) from error


def _earlier_run(files: RunFiles, info: RunInfo) -> RunInfo | None:
    """Return the earlier run that this run continues, or None; refuse results that it must not continue."""
    earlier = files.read_info()
    if earlier is None:
        for path in (files.output, files.journal):
            if path.exists() and path.stat().st_size:
                raise ResumeRefused(f"{path} exists without a {files.info.name} that describes it; {REMEDY}")
        if files.info.exists():
            raise ResumeRefused(f"{files.info} exists and does not describe {files.output.name}; {REMEDY}")
        return None
    if not files.output.exists() and not files.journal.exists():
        return None
    if earlier.state == "running" and not (files.journal.exists() and files.journal.stat().st_size):
        return None  # it ended before its first row, so its settings do not bind this run
    require_same_settings(earlier, info, files.output)
    if _is_converted(files, earlier) and earlier.keys_sha256 != info.keys_sha256:
        raise ResumeRefused(
            f"{files.output} is finished and covers other images ({earlier.count}, now {info.count}); {REMEDY}"
        )
    return earlier


def _require_same_images(files: RunFiles, earlier: RunInfo, keys: Sequence[str], image_path: ImagePath | None) -> None:
    """Refuse a finished table of which an image has changed: without a journal, no batch of it can be replaced."""
    if image_path is None:
        return
    for record in read_ledger(files.ledger):
        number = first_changed(record, record.batch * earlier.batch_size, image_path)
        if number is not None:
            raise ResumeRefused(f"{keys[number]} has changed since {files.output} was finished; {REMEDY}")


def _is_converted(files: RunFiles, earlier: RunInfo) -> bool:
    """Tell whether a CSV or Parquet output is finished and its journal removed."""
    return earlier.state == "finished" and files.output.exists() and not files.journal.exists()
