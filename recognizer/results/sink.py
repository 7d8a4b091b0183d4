"""What a run writes its rows to: the protocol `RowSink`, the images still to do, and the counts of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from recognizer.results.errors import ResultsIncomplete
from recognizer.results.ledger import ImageStamp
from recognizer.results.row import ErrorRow, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTiming:
    """Seconds spent on one batch. Each step is measured separately; the steps overlap in time.

    Attributes:
        decode_s: reading and decoding, summed over the threads.
        encode_s: from the pixels of the batch to its vectors, with the time that it waits for the processors, which two
            batches share.
        score_s: scoring against the memory.
        rerank_s: reranking, from the start of its first question to its last answer.
    """

    decode_s: float
    encode_s: float
    score_s: float
    rerank_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunCounts:
    """The outcome of all images of a run, including those of earlier runs that it resumed.

    Attributes:
        ok: number of images that were recognised.
        errors: number of images that could not be recognised, by error code.
    """

    ok: int
    errors: Mapping[str, int]

    @property
    def failed(self) -> int:
        """Number of images that could not be recognised."""
        return sum(self.errors.values())

    @property
    def total(self) -> int:
        """Number of images."""
        return self.ok + self.failed

    @property
    def failed_share(self) -> float:
        """Share of the images that could not be recognised, in [0, 1]; 0 without images."""
        return self.failed / self.total if self.total else 0.0

    @property
    def reasons(self) -> str:
        """How many images failed with each code, for people; empty where none did."""
        return ", ".join(f"{number} {code}" for code, number in sorted(self.errors.items()))


def require_complete(images: int, counts: RunCounts, *, lines: int | None = None) -> None:
    """Check that each image of a batch or of a run has one row.

    Args:
        images: how many images went in.
        counts: of the rows that came out.
        lines: number of lines that were encoded; None: not counted.

    Raises:
        ResultsIncomplete: the numbers differ.
    """
    if counts.total != images or (lines is not None and lines != images):
        written = "" if lines is None else f" in {lines} lines"
        raise ResultsIncomplete(
            f"{images} images went in, and {counts.ok} rows with status ok and {counts.failed} with status error came "
            f"out{written}; this is a defect of the program, please report it"
        )


def count_rows(rows: Sequence[Row]) -> RunCounts:
    """Count rows by status and error code."""
    errors = Counter(row.code for row in rows if isinstance(row, ErrorRow))
    return RunCounts(len(rows) - errors.total(), errors)


class Worklist:
    """The images of a run that are still to be recognised, in order, and the outcome of all others.

    Attributes:
        todo: their numbers, ascending.
        counts: of the rows that are written.
    """

    def __init__(self, keys: Sequence[str], todo: Sequence[int], errors: Iterable[str | None] = ()) -> None:
        """Begin with the rows of earlier runs.

        Args:
            keys: of all images.
            todo: numbers of those to recognise.
            errors: per row of earlier runs its error code, None for an image that was recognised.
        """
        self.todo = todo
        self._keys = keys
        self._written = 0
        codes = Counter(errors)
        self.counts = RunCounts(codes.pop(None, 0), {code: n for code, n in codes.items() if code is not None})

    @property
    def left(self) -> int:
        """Number of images still to be recognised."""
        return len(self.todo) - self._written

    def require_next(self, rows: Sequence[Row]) -> None:
        """Check that these are the rows of the next images.

        Raises:
            ValueError: they are not.
        """
        images = self.todo[self._written : self._written + len(rows)]
        if [row.key for row in rows] != [self._keys[image] for image in images]:
            raise ValueError(f"{len(rows)} rows out of turn; write the rows of the images of `todo` in that order")

    def tick_off(self, rows: Sequence[Row]) -> None:
        """Count the rows of the next images."""
        counts = count_rows(rows)
        self.counts = RunCounts(self.counts.ok + counts.ok, Counter(self.counts.errors) + Counter(counts.errors))
        self._written += len(rows)


class RowSink(Protocol):
    """Receives the rows of a run, batch by batch, in the order of `todo`."""

    @property
    def todo(self) -> Sequence[int]:
        """Numbers of the images that were to be recognised when the output was opened, ascending."""

    @property
    def done_rows(self) -> int:
        """Number of rows that are written, including those of earlier runs."""

    def write(
        self, rows: Sequence[Row], *, timing: BatchTiming | None = None, images: Sequence[ImageStamp] | None = None
    ) -> None:
        """Write the rows of the next images of `todo`; `images` are stamps of the files, to see a change on resume."""

    def finish(self) -> RunCounts:
        """Complete the output after the last batch."""

    def close(self) -> None:
        """Release the output; the rows stay, and the run can be resumed."""

    def __enter__(self) -> Self:
        """Return the sink."""

    def __exit__(self, *_: object) -> None:
        """Close."""


def todo_batches(sink: RowSink, batch_size: int) -> Iterator[Sequence[int]]:
    """Slice the images that a sink still wants into batches; the last one may be smaller."""
    return (sink.todo[start : start + batch_size] for start in range(0, len(sink.todo), batch_size))
