"""Results on a stream such as standard output, with no files beside them."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Self

from recognizer.results.errors import OutputUnusable
from recognizer.results.journal import encode_batch
from recognizer.results.ledger import ImageStamp
from recognizer.results.row import Row
from recognizer.results.run_files import OutputFormat
from recognizer.results.sink import (
    Batch,
    BatchTiming,
    RunCounts,
    batch_at,
    batch_count,
    batch_keys,
    require_complete,
)
from recognizer.results.tables import CsvLines


class StreamWriter:
    """Writes the rows of a run to a stream as they come; such a run cannot be resumed.

    Attributes:
        done_rows: number of rows written.
    """

    def __init__(
        self, stream: IO[bytes], *, keys: Sequence[str], batch_size: int, output_format: OutputFormat = "jsonl"
    ) -> None:
        """Prepare the stream.

        Args:
            stream: receives UTF-8; stays open.
            keys: keys of all images of the run, in order.
            batch_size: images in a batch.
            output_format: jsonl or csv.

        Raises:
            OutputUnusable: the format cannot be streamed.
        """
        if output_format == "parquet":
            raise OutputUnusable("parquet cannot be written to standard output; name a file with --output")
        self.done_rows = 0
        self._stream = stream
        self._keys = keys
        self._batch_size = batch_size
        self._text = io.StringIO(newline="")
        self._csv = CsvLines(self._text) if output_format == "csv" else None
        self._ok = 0
        self._errors: Counter[str] = Counter()

    def pending(self) -> Iterator[Batch]:
        """Yield every batch of the run, in order."""
        for number in range(batch_count(len(self._keys), self._batch_size)):
            yield batch_at(number, len(self._keys), self._batch_size)

    def write(
        self,
        batch: int,
        rows: Sequence[Row],
        *,
        timing: BatchTiming | None = None,
        images: Sequence[ImageStamp | None] | None = None,
    ) -> None:
        """Write the rows of the next batch and flush them.

        Args:
            batch: its number.
            rows: the rows of its images, in order.
            timing: ignored; a stream has no file for it.
            images: ignored likewise.

        Raises:
            BrokenPipeError: the reader has closed the stream.
            ValueError: another batch is next, or the rows do not belong to the batch.
        """
        if batch * self._batch_size != self.done_rows:
            raise ValueError(f"batch {batch} is out of turn; write the batches in the order of pending()")
        lines, ok, errors = encode_batch(rows, batch_keys(self._keys, batch, self._batch_size))
        if self._csv is not None:
            self._csv.write(map(json.loads, lines.splitlines()))
            lines = self._text.getvalue().encode("utf-8")
            self._text.seek(0)
            self._text.truncate()
        self._stream.write(lines)
        self._stream.flush()
        self.done_rows += len(rows)
        self._ok += ok
        self._errors += errors

    def finish(self) -> RunCounts:
        """Return the counts of the rows written.

        Raises:
            ResultsIncomplete: they are not one for each image.
        """
        counts = RunCounts(self._ok, dict(self._errors))
        require_complete(len(self._keys), counts)
        return counts

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the stream belongs to the caller."""
