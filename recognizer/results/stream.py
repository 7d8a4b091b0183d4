"""Results on a stream such as standard output, with no files beside them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import IO, Self

from recognizer.results.errors import OutputUnusable
from recognizer.results.journal import encode_rows
from recognizer.results.ledger import ImageStamp
from recognizer.results.row import Row
from recognizer.results.run_files import OutputFormat
from recognizer.results.sink import BatchTiming, RunCounts, Worklist, require_complete
from recognizer.results.tables import CsvLines, about_boxes


class StreamWriter:
    """Writes the rows of a run to a stream as they come; such a run cannot be resumed.

    Attributes:
        todo: numbers of all images.
    """

    def __init__(self, stream: IO[bytes], *, keys: Sequence[str], output_format: OutputFormat = "jsonl") -> None:
        """Prepare the stream.

        Args:
            stream: receives UTF-8; stays open.
            keys: keys of all images of the run, in order.
            output_format: jsonl or csv.

        Raises:
            OutputUnusable: the format cannot be streamed.
        """
        if output_format == "parquet":
            raise OutputUnusable("parquet cannot be written to standard output; name a file with --output")
        self.todo = range(len(keys))
        self._stream = stream
        self._work = Worklist(keys, self.todo)
        self._text = io.StringIO(newline="")
        self._is_csv = output_format == "csv"
        self._csv: CsvLines | None = None

    @property
    def done_rows(self) -> int:
        """Number of rows written."""
        return self._work.counts.total

    def write(
        self, rows: Sequence[Row], *, timing: BatchTiming | None = None, images: Sequence[ImageStamp] | None = None
    ) -> None:
        """Write the rows of the next images and flush them.

        Args:
            rows: the rows, in order.
            timing: ignored; a stream has no file for it.
            images: ignored likewise.

        Raises:
            BrokenPipeError: the reader has closed the stream.
            ValueError: these are not the rows of the next images.
        """
        self._work.require_next(rows)
        lines = encode_rows(rows)
        data = b"".join(lines)
        if self._is_csv:
            contents = [json.loads(line) for line in lines]
            self._csv = self._csv or CsvLines(self._text, boxes=any(map(about_boxes, contents)))
            self._csv.write(contents)
            data = self._text.getvalue().encode("utf-8")
            self._text.seek(0)
            self._text.truncate()
        self._stream.write(data)
        self._stream.flush()
        self._work.tick_off(rows)

    def finish(self) -> RunCounts:
        """Return the counts of the rows written.

        Raises:
            ResultsIncomplete: they are not one for each image.
        """
        require_complete(len(self.todo), self._work.counts)
        return self._work.counts

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the stream belongs to the caller."""
