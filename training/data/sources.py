"""Sources of raw samples: one interface over all file formats, and how the paths of a config become one source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Protocol

import numpy as np

from recognizer.images import DecodedImage, ImageError, ImageLimits, decode_bytes
from training.data.manifest import Manifest, unreadable
from training.data.record import BadSample, RawSample, Record, Rejects, make_record
from training.data.shards import Shards
from training.errors import DataError


class Source(Protocol):
    """Samples that any process can read in any order; picklable, and small when pickled.

    Attributes:
        parts: counts of damaged files by reason, from when the source was opened.
        block_sizes: number of samples in each run of rows that is cheap to read together; they sum to the length.
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
            BadSample: the sample cannot be read.
        """
        ...


class Joined:
    """Several sources, one after the other, as one `Source`.

    Attributes:
        parts: the counts of all sources, added.
        block_sizes: the blocks of all sources, in order.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        """Join at least one source."""
        self.parts: Counter[str] = sum((source.parts for source in sources), Counter())
        self.block_sizes: Sequence[int] = tuple(chain.from_iterable(source.block_sizes for source in sources))
        self._sources = list(sources)
        self._starts = np.array([0, *accumulate(map(len, sources))])

    def __len__(self) -> int:
        """Count the samples."""
        return int(self._starts[-1])

    def read(self, row: int) -> RawSample:
        """Read a sample; see `Source.read`."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._sources[number].read(row - int(self._starts[number]))


def open_sources(paths: Sequence[Path], *, limits: ImageLimits | None = None) -> Source:
    """Open manifests and shards as one source.

    Args:
        paths: manifests (`.jsonl`), shards (`.tar`) and folders of shards, in any mixture.
        limits: limits of the image files that manifests name.

    Raises:
        DataError: a path is none of these, or is empty.
    """
    sources: list[Source] = []
    for path in paths:
        if path.is_dir():
            sources.append(Shards(sorted(path.glob("*.tar"))))
        elif path.suffix == ".tar":
            sources.append(Shards([path]))
        elif path.suffix == ".jsonl":
            sources.append(Manifest(path, limits=limits))
        else:
            raise DataError(f"{path}: neither a folder of shards, a shard (.tar) nor a manifest (.jsonl)")
    if not sources:
        raise DataError("no training data is named; give manifests (.jsonl), shards (.tar) or folders of shards")
    return sources[0] if len(sources) == 1 else Joined(sources)


def read_sample(
    source: Source, row: int, rejects: Rejects, *, limits: ImageLimits, target_size_hw: tuple[int, int]
) -> tuple[str, DecodedImage, Record]:
    """Read the key, the image and the usable part of the record of a sample.

    Args:
        source: of the samples.
        row: of the source.
        rejects: counts what is left out of the record.
        limits: of the image.
        target_size_hw: height and width in pixels that are enough; a JPEG may be decoded at a reduced size.

    Raises:
        BadSample: the sample cannot be used.
    """
    raw = source.read(row)
    try:
        decoded = decode_bytes(raw.image, limits=limits, target_size_hw=target_size_hw)
    except ImageError as error:
        raise BadSample(unreadable(error)) from None
    return raw.key, decoded, make_record(raw.fields, decoded.displayed_size_hw, rejects)
