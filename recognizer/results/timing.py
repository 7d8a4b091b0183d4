"""How long each batch took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recognizer.results.errors import OutputUnusable


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
