"""What a run writes its rows to: the protocol `RowSink`, the grid of batches, and the counts and timings of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from recognizer.results.errors import ResultsIncomplete
from recognizer.results.ledger import ImageStamp
from recognizer.results.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTiming:
    """Seconds spent on one batch. Each step is measured separately; the steps overlap in time.

    Attributes:
        decode_s: reading and decoding, summed over the threads.
        encode_s: the forward pass of the encoder.
        score_s: scoring against the memory.
        rerank_s: reranking, from the start of its first question to its last answer.
    """

    decode_s: float
    encode_s: float
    score_s: float
    rerank_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of the fixed grid.

    Attributes:
        number: counted from 0.
        start: index of its first image.
        stop: index after its last image.
    """

    number: int
    start: int
    stop: int


def batch_count(images: int, batch_size: int) -> int:
    """Return the number of batches in the grid; the last one may be smaller."""
    return -(-images // batch_size)


def batch_at(number: int, images: int, batch_size: int) -> Batch:
    """Return the batch of that number."""
    return Batch(number, number * batch_size, min((number + 1) * batch_size, images))


def batch_keys(keys: Sequence[str], number: int, batch_size: int) -> Sequence[str]:
    """Return the keys of the batch of that number."""
    batch = batch_at(number, len(keys), batch_size)
    return keys[batch.start : batch.stop]


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


class RowSink(Protocol):
    """Receives the rows of a run, batch by batch, in the order of `pending`."""

    @property
    def done_rows(self) -> int:
        """Number of rows that are written, including those of earlier runs."""

    def pending(self) -> Iterator[Batch]:
        """Yield the batches still to do; may be read ahead of `write`."""

    def write(
        self,
        batch: int,
        rows: Sequence[Row],
        *,
        timing: BatchTiming | None = None,
        images: Sequence[ImageStamp | None] | None = None,
    ) -> None:
        """Write the rows of a batch; `images` says what its image files were, so that a change is seen on resume."""

    def finish(self) -> RunCounts:
        """Complete the output after the last batch."""

    def close(self) -> None:
        """Release the output; the rows stay, and the run can be resumed."""

    def __enter__(self) -> Self:
        """Return the sink."""

    def __exit__(self, *_: object) -> None:
        """Close."""
