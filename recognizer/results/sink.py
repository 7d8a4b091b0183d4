"""What a run writes its rows to, whatever lies behind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self

from recognizer.results.errors import OutputUnusable
from recognizer.results.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTiming:
    """Seconds spent on one batch, each measured on its own; they overlap in time.

    Attributes:
        decode_s: reading and decoding, summed over the workers.
        encode_s: the encoder's forward pass.
        score_s: scoring against the memory.
        rerank_s: reranking, from the batch's turn to its end.
    """

    decode_s: float
    encode_s: float
    score_s: float
    rerank_s: float = 0.0


class TimingLog:
    """One line of JSON a batch, beside the results; not part of them."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Open the log for appending.

        Raises:
            OutputUnusable: it cannot be written.
        """
        try:
            self._stream = open(path, "w" if overwrite else "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise OutputUnusable(f"{path}: cannot be written: {error.strerror}") from error

    def write(self, batch: int, images: int, timing: BatchTiming, write_s: float) -> None:
        """Append the line of one batch."""
        seconds: Sequence[tuple[str, float]] = [*asdict(timing).items(), ("write_s", write_s)]
        line = {"batch": batch, "images": images, **{name: round(value, 6) for name, value in seconds}}
        self._stream.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the log."""
        self._stream.close()


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
