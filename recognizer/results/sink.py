"""What a run writes its rows to, whatever lies behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from recognizer.results.row import Row
from recognizer.results.timing import BatchTiming


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


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What became of the images of a run, those of resumed runs included.

    Attributes:
        ok: images recognised.
        errors: images that could not be, by error code.
    """

    ok: int
    errors: Mapping[str, int]

    @property
    def failed(self) -> int:
        """Count the images that could not be recognised."""
        return sum(self.errors.values())


class RowSink(Protocol):
    """Receives the rows of a run, batch by batch, in the order of :meth:`pending`."""

    @property
    def done_rows(self) -> int:
        """Rows that are in, those of earlier runs included."""

    def pending(self) -> Iterator[Batch]:
        """The batches still to do; may be read ahead of :meth:`write`."""

    def write(self, batch: int, rows: Sequence[Row], *, timing: BatchTiming | None = None) -> float:
        """Write the rows of a batch; returns the seconds that took."""

    def finish(self) -> RunCounts:
        """Complete the output after the last batch."""

    def close(self) -> None:
        """Let go of the output; what is written stays and can be resumed."""

    def __enter__(self) -> Self:
        """Return the sink."""

    def __exit__(self, *_: object) -> None:
        """Close."""


def batch_count(images: int, batch_size: int) -> int:
    """Count the batches of the grid."""
    return -(-images // batch_size)


def batch_at(number: int, images: int, batch_size: int) -> Batch:
    """The batch of that number."""
    return Batch(number, number * batch_size, min((number + 1) * batch_size, images))
