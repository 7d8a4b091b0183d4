"""Where samples come from, whatever the files look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recognizer.errors import RecognizerError
from training.data.record import Fields


class DataError(RecognizerError):
    """Training data that cannot be used as a whole; the message says what and why."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as stored.

    Attributes:
        key: names the sample in messages: a path, or a shard and a key in it.
        image: the bytes of the image file.
        fields: the unchecked values of its JSON object.
    """

    key: str
    image: bytes
    fields: Fields


class Source(Protocol):
    """Samples that can be read in any order, by any process; picklable, and light to copy.

    Attributes:
        parts: faults of whole files found while they were listed, by reason.
        block_sizes: samples in each run of rows that are cheap to read together; they sum to the length.
    """

    parts: Counter[str]
    block_sizes: Sequence[int]

    def __len__(self) -> int:
        """Count the samples, good and bad."""
        ...

    def read(self, row: int) -> RawSample:
        """Read a sample.

        Args:
            row: 0 to length - 1.

        Raises:
            BadSample: it cannot be read; the reason.
        """
        ...
