"""Write the results of a run to files that can be resumed.

Rows are appended to the journal, and its ledger vouches for them; `OUTPUT.run.json` and `OUTPUT.timing.jsonl` stand
beside it. At the end the journal is put into the order of the listing, and converted to CSV or Parquet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from memory.errors import WriteFailed
from memory.wording import counted
from recognizer.results.carry import carry_over
from recognizer.results.errors import REMEDY, OutputUnusable, ResumeRefused
from recognizer.results.journal import open_journal
from recognizer.results.ledger import CurrentStamp, ImageStamp
from recognizer.results.row import Row
from recognizer.results.run_files import RunFiles, TimingLog
from recognizer.results.run_info import (
    RunInfo,
    finish_run_info,
    require_same_settings,
    write_run_info,
)
from recognizer.results.sink import BatchTiming, RunCounts, Worklist, require_complete
from recognizer.results.tables import write_csv, write_parquet


class ResultWriter:
    """Writes the files of one run, batch by batch.

    Attributes:
        files: their paths.
        info: what made the output.
        todo: numbers of the images to recognise, ascending.
    """

    def __init__(
        self,
        files: RunFiles,
        info: RunInfo,
        keys: Sequence[str],
        *,
        overwrite: bool,
        retry_errors: bool,
        keep_missing: bool,
        current_stamp: CurrentStamp | None,
        warn: Callable[[str], None],
    ) -> None:
        """Compare with an earlier run, then open the journal and see which of its rows still count."""
        self.files = files
        self._keys = keys
        before = files.read_info()
        earlier = None if overwrite else _earlier_run(files, info)
        self._journal, content = open_journal(files.journal, files.ledger, overwrite=overwrite)
        try:
            if files.read_info() != before:  # before the journal was locked
                raise ResumeRefused(f"{files.output}: another run has just written this file; repeat the command")
            if content.damaged:
                warn(f"{files.journal}: damaged: {counted(content.damaged, 'row')}; done again")
            carried = carry_over(
                keys,
                content,
                retry_errors=retry_errors,
                keep_missing=keep_missing,
                current_stamp=current_stamp,
                warn=warn,
            )
            self.todo = carried.todo
            self._missing = carried.missing
            self._in_order = carried.in_order
            self._work = Worklist(keys, carried.todo, carried.errors)
            self._is_converted = (
                earlier is not None
                and earlier.state == "finished"
                and files.output.exists()
                and carried.in_order
                and not carried.todo
            )
            self.info = replace(info, count=len(keys) + len(carried.missing))
            if earlier is not None:
                self.info = replace(self.info, started=earlier.started, resumed=earlier.resumed + 1)
            write_run_info(files.info, self.info)
            self._timing = TimingLog(files.timing, overwrite=earlier is None)
        except BaseException:
            self._journal.close()
            raise

    @property
    def done_rows(self) -> int:
        """Number of listed images whose row is written, including those of earlier runs."""
        return len(self._keys) - self._work.left

    def write(
        self, rows: Sequence[Row], *, timing: BatchTiming | None = None, images: Sequence[ImageStamp] | None = None
    ) -> None:
        """Write the rows of the next images of `todo`.

        Args:
            rows: the rows, in order.
            timing: written to the log of timings, with the seconds of this call.
            images: what their image files were when they were recognised; None: unknown.

        Raises:
            ValueError: these are not the rows of the next images.
            OutputUnusable: the disk refuses.
        """
        started = time.perf_counter()
        self._work.require_next(rows)
        self._journal.append(rows, images)
        self._work.tick_off(rows)
        if timing is not None:
            self._timing.write(len(rows), timing, write_s=time.perf_counter() - started)

    def finish(self) -> RunCounts:
        """Complete the run: make the rows durable, order them, convert them to CSV or Parquet, mark it as finished.

        The journal of a CSV or Parquet output stays: the next run over a folder that has grown continues it.

        Returns:
            Counts over all rows of the output.

        Raises:
            ValueError: rows are missing.
            ResultsIncomplete: the rows are not one for each image.
            OutputUnusable: the disk refuses.
        """
        if self._work.left:
            raise ValueError(f"{self.done_rows} of {len(self._keys)} rows are written; the run is not finished")
        counts = self._work.counts
        require_complete(self.info.count, counts)
        try:
            if not self._in_order:
                self._journal.arrange([*self._keys, *self._missing])
            self.close()
            if self.info.format == "csv" and not self._is_converted:
                write_csv(self.files.journal, self.files.output)
            elif self.info.format == "parquet" and not self._is_converted:
                write_parquet(self.files.journal, self.files.output)
            self.info = finish_run_info(self.info, counts)
            write_run_info(self.files.info, self.info)
        except WriteFailed as error:
            raise OutputUnusable(
                f"{error}; all rows are safe in {self.files.journal}: free about as much space as it takes "
                f"({self.files.journal.stat().st_size} bytes), then repeat the command"
            ) from error
        return counts

    def close(self) -> None:
        """Close the files; the run can be resumed. Closing twice does nothing."""
        self._journal.close()
        self._timing.close()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


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
    if earlier.state == "finished" and not files.journal.exists():
        raise ResumeRefused(
            f"{files.journal} is missing, and without it the rows of {files.output} cannot be continued; {REMEDY}"
        )
    return earlier
