"""Shards: tar files of `KEY.jpg` with `KEY.json`, `KEY.txt` or both, as WebDataset and img2dataset write them.

`KEY.txt` is the caption where the JSON object has none, or where there is no JSON object.

They are read by position rather than streamed, so that a sample does not depend on the worker that reads it, and an
interrupted run continues at the sample where it stopped.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np

from memory.durable import replacing
from training.data.manifest import MOST_JSON_BYTES, parse_line
from training.data.record import BadSample, Fields, RawSample
from training.data.shard_index import NOTHING, ShardIndex, index_shard
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample to write.

    Attributes:
        key: unique in its shard, without dots and slashes.
        jpeg: the bytes of the image file.
        fields: JSON values, as `training.data.record.make_record` reads them.
    """

    key: str
    jpeg: bytes
    fields: dict[str, Any]


class Shards:
    """The samples of some shards as a `Source`, in the order of the given paths.

    Attributes:
        parts: number of shards that end early, and of files that are not shards, by reason.
        block_sizes: number of samples of each shard.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        """Index the shards.

        Args:
            paths: the tar files.

        Raises:
            DataError: the shards have no samples.
        """
        self.parts: Counter[str] = Counter()
        self._paths = list(paths)
        self._indices: list[ShardIndex] = [self._index(path) for path in self._paths]
        self.block_sizes: Sequence[int] = tuple(map(len, self._indices))
        self._starts = np.array([0, *accumulate(self.block_sizes)])
        if not len(self):
            reasons = "".join(f"; {reason} {count}" for reason, count in self.parts.items())
            raise DataError(f"no samples in {len(self._paths)} shards{reasons}")

    def __len__(self) -> int:
        """Count the samples."""
        return int(self._starts[-1])

    def read(self, row: int) -> RawSample:
        """Read a sample; see `Source.read`."""
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        index, row = self._indices[shard], row - int(self._starts[shard])
        with open(self._paths[shard], "rb") as stream:
            image = _member(stream, index.images[row])
            json_object = _member(stream, index.jsons[row], most=MOST_JSON_BYTES + 1)
            text = _member(stream, index.texts[row], most=MOST_JSON_BYTES)
        if image is None or (json_object is None and text is None):
            raise BadSample("sample without image, or without JSON and text")
        fields: Fields = {} if json_object is None else parse_line(json_object)
        if text is not None and not (fields.get("caption") or fields.get("captions")):
            fields = {**fields, "caption": _caption(text)}
        key = bytes(index.keys[row]).decode("utf-8", "replace")
        return RawSample(f"{self._paths[shard].name}/{key}", image, fields)

    def _index(self, path: Path) -> ShardIndex:
        try:
            index = index_shard(path)
        except (OSError, tarfile.TarError) as error:
            missing = isinstance(error, FileNotFoundError)
            self.parts["missing shard" if missing else "unreadable shard"] += 1
            return ShardIndex.empty()
        if index.cut_short:
            self.parts["shard cut short"] += 1
        return index


def write_shards(samples: Iterable[ShardSample], folder: Path, *, per_shard: int = 1000) -> list[Path]:
    """Write shards `shard-000000.tar` and so on, each atomically; the same samples give the same bytes.

    Args:
        samples: stored in this order.
        folder: created if missing; all shards of an earlier call are replaced.
        per_shard: number of samples in each shard but the last.

    Returns:
        The paths, in order.

    Raises:
        ValueError: a key is empty, or contains a dot or a slash.
        memory.errors.WriteFailed: a shard cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    rest = iter(samples)
    while batch := list(islice(rest, per_shard)):
        paths.append(folder / f"shard-{len(paths):06d}.tar")
        with replacing(paths[-1]) as draft, tarfile.open(draft, "w") as archive:
            for member, data in _members(batch):
                archive.addfile(member, io.BytesIO(data))
    for stale in set(folder.glob("shard-[0-9]*.tar")) - set(paths):
        stale.unlink()
    return paths


def _members(samples: Iterable[ShardSample]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for sample in samples:
        if not sample.key or "." in sample.key or "/" in sample.key:
            raise ValueError(f"the key {sample.key!r} is empty or contains a dot or a slash")
        text = json.dumps(sample.fields, ensure_ascii=False).encode()
        for suffix, data in (("jpg", sample.jpeg), ("json", text)):
            member = tarfile.TarInfo(f"{sample.key}.{suffix}")
            member.size = len(data)
            yield member, data


def _member(
    stream: io.BufferedReader, span: np.ndarray[Any, np.dtype[np.int64]], *, most: int | None = None
) -> bytes | None:
    """Read a member, or its first `most` bytes; None where the sample has none."""
    start, size = (int(value) for value in span)
    if start == NOTHING:
        return None
    stream.seek(start)
    return stream.read(size if most is None else min(size, most))


def _caption(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadSample("caption that is not UTF-8 text") from None
