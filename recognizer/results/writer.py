"""Write the results of a run: to files that can be resumed, or to standard output.

`open_results` decides between the two. On disk, rows are appended to the journal; `run.json` and `timing.jsonl` stand
beside it; CSV and Parquet are converted from the journal at the end.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from recognizer.results.errors import REMEDY, ResumeRefused
from recognizer.results.journal import Journal, count_rows, open_locked
from recognizer.results.retry import JournalPatch, retry_draft_path
from recognizer.results.row import Row
from recognizer.results.run_files import OutputFormat, RunFiles, TimingLog, find_run_files, infer_format
from recognizer.results.run_info import (
    RunInfo,
    RunSetup,
    finish_run_info,
    read_run_info,
    require_same_settings,
    write_run_info,
)
from recognizer.results.sink import Batch, BatchTiming, RowSink, RunCounts, batch_at, batch_count
from recognizer.results.stream import StreamWriter
from recognizer.results.tables import write_csv, write_parquet


def open_results(
    output: str | Path,
    *,
    keys: Sequence[str],
    batch_size: int,
    setup: RunSetup,
    output_format: OutputFormat | None = None,
    overwrite: bool = False,
    retry_errors: bool = False,
) -> RowSink:
    """Open the output of a run; continue an earlier run if it left one.

    Args:
        output: a file, created with its folders if it is missing; ``-`` for standard output.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch, at least 1; must be the same on resume, because the grid of batches is fixed.
        setup: describes the run.
        output_format: None: inferred from the suffix.
        overwrite: drop the results of an earlier run.
        retry_errors: repeat the batches with failed images.

    Returns:
        The sink; write the batches of its `pending` in that order, then call `finish`.

    Raises:
        OutputUnusable: the output cannot be written.
        ResumeRefused: the output exists and is not the beginning of this run.
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"a batch size of {batch_size}; give 1 or more")
    chosen = infer_format(output, output_format)
    if str(output) == "-":
        return StreamWriter(sys.stdout.buffer, keys=keys, batch_size=batch_size, output_format=chosen)
    files = find_run_files(Path(output), chosen)
    info = RunInfo(
        output=files.output.name,
        format=chosen,
        command=tuple(setup.command),
        model=setup.model,
        memory=setup.memory,
        settings=setup.settings,
        device=setup.device,
        input_root=setup.input_root,
        count=len(keys),
        keys_sha256=_keys_sha256(keys),
        batch_size=batch_size,
    )
    return ResultWriter(files, info, keys, overwrite=overwrite, retry_errors=retry_errors)


def check_output(output: str | Path, output_format: OutputFormat | None = None) -> None:
    """Refuse an output that cannot be written, before anything slow is loaded; no new file remains.

    Raises:
        OutputUnusable: it cannot be written, or another run is writing it.
    """
    chosen = infer_format(output, output_format)
    if str(output) == "-":
        return
    journal = find_run_files(Path(output), chosen).journal
    existed = journal.exists()
    open_locked(journal).close()
    if not existed:
        journal.unlink(missing_ok=True)


def is_finished(output: str | Path, output_format: OutputFormat | None = None) -> bool:
    """Tell whether the run that wrote this output is finished, so that there is nothing to resume."""
    if str(output) == "-":
        return False
    info = read_run_info(find_run_files(Path(output), infer_format(output, output_format)).info)
    return info is not None and info.output == Path(output).name and info.state == "finished"


class ResultWriter:
    """Writes the files of one run, batch by batch.

    Attributes:
        files: their paths.
        info: the content of `run.json`.
    """

    def __init__(
        self, files: RunFiles, info: RunInfo, keys: Sequence[str], *, overwrite: bool, retry_errors: bool
    ) -> None:
        """Compare with an earlier run, then open the journal."""
        self.files = files
        self.info = info
        self._keys = keys
        earlier = None if overwrite else _earlier_run(files, info)
        self._complete = earlier is not None and _is_converted(files, earlier)
        if self._complete and earlier is not None:
            self.info = earlier
            return
        self._journal = Journal(files.journal, keys=keys, batch_size=info.batch_size, overwrite=overwrite)
        self._patch: JournalPatch | None = None
        self._retried: list[int] = []
        try:
            retry_draft_path(files.journal).unlink(missing_ok=True)
            if earlier is not None:
                self.info = replace(info, started=earlier.started, resumed=earlier.resumed + 1)
            write_run_info(files.info, self.info)
            self._timing = TimingLog(files.timing, overwrite=earlier is None)
            if retry_errors and any(span.errors for span in self._journal.spans):
                self._start_patch()
        except BaseException:
            self._journal.close()
            raise

    @property
    def done_rows(self) -> int:
        """Number of rows that are written and will not be retried, including those of earlier runs."""
        if self._complete:
            return self.info.count
        retried = self._patch.pending if self._patch is not None else []
        sizes = [batch_at(number, len(self._keys), self.info.batch_size) for number in retried]
        return self._journal.done_rows - sum(batch.stop - batch.start for batch in sizes)

    def pending(self) -> Iterator[Batch]:
        """Yield the batches to do: those with errors to retry, then the new ones; may be read ahead."""
        if self._complete:
            return
        first_new = len(self._journal.spans)
        for number in [*self._retried, *range(first_new, batch_count(len(self._keys), self.info.batch_size))]:
            yield batch_at(number, len(self._keys), self.info.batch_size)

    def write(self, batch: int, rows: Sequence[Row], *, timing: BatchTiming | None = None) -> None:
        """Write the rows of the next batch.

        Args:
            batch: its number, in the order of `pending`.
            rows: the rows of its images, in order.
            timing: written to `timing.jsonl`, with the seconds of this call.

        Raises:
            ValueError: another batch is next, or the rows do not belong to its images.
            OutputUnusable: the disk refuses.
        """
        started = time.perf_counter()
        if self._patch is not None:
            self._patch.replace(batch, rows)
            if batch == self._patch.pending[-1]:
                self._finish_patch()
        elif self._complete or batch != len(self._journal.spans):
            raise ValueError(f"batch {batch} is out of turn; write the batches in the order of pending()")
        else:
            self._journal.append(rows)
        if timing is not None:
            self._timing.write(batch, len(rows), timing, write_s=time.perf_counter() - started)

    def finish(self) -> RunCounts:
        """Complete the run: make the rows durable, convert them to CSV or Parquet, mark `run.json` as finished.

        The journal of a CSV or Parquet output is removed, unless it has error rows: a retry needs it.

        Returns:
            Counts over all rows of the output.

        Raises:
            ValueError: batches are missing.
            OutputUnusable: the disk refuses.
        """
        if self._complete:
            return RunCounts(self.info.counts["ok"], self.info.errors)
        if self._patch is not None or self._journal.done_rows < len(self._keys):
            raise ValueError(f"{self.done_rows} of {len(self._keys)} rows are written; the run is not finished")
        counts = count_rows(self._journal.spans)
        self.close()
        if self.info.format == "csv":
            write_csv(self.files.journal, self.files.output)
        elif self.info.format == "parquet":
            write_parquet(self.files.journal, self.files.output)
        self.info = finish_run_info(self.info, counts)
        write_run_info(self.files.info, self.info)
        if self.files.journal != self.files.output and not counts.failed:
            self.files.journal.unlink(missing_ok=True)
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

    def _start_patch(self) -> None:
        spans = self._journal.spans
        self._journal.close()
        self._patch = JournalPatch(
            self.files.journal, keys=self._keys, batch_size=self.info.batch_size, spans=list(spans)
        )
        self._retried = self._patch.pending

    def _finish_patch(self) -> None:
        if self._patch is not None:
            self._patch.finish()
            self._patch = None
            self._journal = Journal(self.files.journal, keys=self._keys, batch_size=self.info.batch_size)


def _earlier_run(files: RunFiles, info: RunInfo) -> RunInfo | None:
    """Return the earlier run that this run continues, or None; refuse results that it must not continue."""
    earlier = read_run_info(files.info)
    if earlier is None or earlier.output != files.output.name:
        for path in (files.output, files.journal):
            if path.exists() and path.stat().st_size:
                raise ResumeRefused(f"{path} exists without a run.json that describes it; {REMEDY}")
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


def _is_converted(files: RunFiles, earlier: RunInfo) -> bool:
    """Tell whether a CSV or Parquet output is finished and its journal removed."""
    return earlier.state == "finished" and files.output.exists() and not files.journal.exists()


def _keys_sha256(keys: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        digest.update(os.fsencode(key) + b"\0")
    return digest.hexdigest()
