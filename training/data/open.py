"""Opening the data that a configuration names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path

import numpy as np

from recognizer.images import ImageLimits
from training.data.manifest import Manifest
from training.data.shards import Shards
from training.data.source import DataError, RawSample, Source


class Joined:
    """Several sources, one after the other, as one `Source`.

    Attributes:
        parts: the faults of all.
        block_sizes: the blocks of all.
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
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._sources[place].read(row - int(self._starts[place]))


def open_sources(paths: Sequence[Path], *, limits: ImageLimits | None = None) -> Source:
    """Open manifests and shards.

    Args:
        paths: manifests (`.jsonl`), shards (`.tar`) and folders with shards, in any mixture.
        limits: of the image files that manifests name.

    Raises:
        DataError: a path is none of these, or holds nothing.
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
            raise DataError(f"{path}: no folder of shards, no shard (.tar) and no manifest (.jsonl)")
    if not sources:
        raise DataError("no training data is named; give manifests (.jsonl), shards (.tar) or folders of shards")
    return sources[0] if len(sources) == 1 else Joined(sources)
