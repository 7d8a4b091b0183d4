"""The index of a shard: where its samples lie. That of a large shard is stored beside it."""

from __future__ import annotations

import contextlib
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.durable import replacing
from memory.errors import WriteFailed
from memory.labels import IMAGE_SUFFIXES

NOTHING = -1
_STORED_FROM = 2000  # samples; scanning a smaller shard is faster than writing an index file


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The samples of one shard.

    Attributes:
        keys: (N) bytes.
        images: (N, 2) int64 first byte and size of the image; the first byte is `NOTHING` where there is none.
        jsons: (N, 2) int64 the same for the JSON object.
        texts: (N, 2) int64 the same for the text file with the caption.
        cut_short: whether the file ends before the archive does; only complete samples are indexed.
    """

    keys: NDArray[np.bytes_]
    images: NDArray[np.int64]
    jsons: NDArray[np.int64]
    texts: NDArray[np.int64]
    cut_short: bool

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.keys)

    @classmethod
    def empty(cls) -> ShardIndex:
        """Return the index of a shard without samples."""
        return _as_index({}, cut_short=False)


def index_shard(path: Path) -> ShardIndex:
    """Index a shard.

    The index of a large shard is stored as `NAME.index.npz` beside it, if the folder is writable, and used as long as
    the shard's size and modification time stay the same.

    Raises:
        OSError: the file cannot be read.
        tarfile.TarError: the file is not a tar archive.
    """
    index_path = path.with_name(f"{path.name}.index.npz")
    status = os.stat(path)
    stamp = np.array([status.st_size, status.st_mtime_ns], dtype=np.int64)
    index = _load(index_path, stamp)
    if index is None:
        index = _scan(path)
        if len(index) >= _STORED_FROM:
            _save(index_path, index, stamp)
    return index


def _scan(path: Path) -> ShardIndex:
    """Read the headers; consecutive members with the same name up to the first dot are one sample."""
    samples: dict[tuple[int, str], dict[str, tuple[int, int]]] = {}
    run, previous = -1, None
    size = path.stat().st_size
    cut_short = False
    with tarfile.open(path, "r:") as archive:
        end = 0
        for member in _whole_headers(archive):
            end = member.offset_data + member.size
            cut_short = end > size
            if cut_short or not member.isfile():
                continue
            key, suffix = _split(member.name)
            if key != previous:
                run, previous = run + 1, key
            kind = "image" if f".{suffix}" in IMAGE_SUFFIXES else suffix
            samples.setdefault((run, key), {})[kind] = (member.offset_data, member.size)
    padded = -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    cut_short = cut_short or size < padded + tarfile.BLOCKSIZE  # an archive ends with blocks of zeros
    if cut_short and samples:
        last, *before = list(reversed(samples))[:2]
        # A part of the last sample was cut off if it has one part only, or fewer kinds of parts than the one before.
        if len(samples[last]) == 1 or any(samples[key].keys() - samples[last].keys() for key in before):
            del samples[last]
    return _as_index(samples, cut_short=cut_short)


def _whole_headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield members until the file ends, even if it ends too early."""
    while True:
        try:
            member = archive.next()
        except tarfile.ReadError:  # a header, or the data before it, is cut off
            return
        if member is None:
            return
        yield member


def _split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    key, _, suffix = base.partition(".")
    return (f"{folder}/{key}" if folder else key), suffix.lower()


def _as_index(samples: dict[tuple[int, str], dict[str, tuple[int, int]]], *, cut_short: bool) -> ShardIndex:
    usable = {key: spans for key, spans in samples.items() if "image" in spans or "json" in spans}
    images, jsons, texts = (
        np.array([spans.get(kind, (NOTHING, 0)) for spans in usable.values()], dtype=np.int64).reshape(-1, 2)
        for kind in ("image", "json", "txt")
    )
    keys = np.array([key.encode("utf-8", "replace") for _, key in usable], dtype=np.bytes_)
    return ShardIndex(keys, images, jsons, texts, cut_short)


def _load(index_path: Path, stamp: NDArray[np.int64]) -> ShardIndex | None:
    """Return the stored index; None where it is missing, damaged, of an earlier release or of another shard."""
    try:
        with open(index_path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if not np.array_equal(stored["stamp"], stamp):
                return None
            arrays = {name: stored[name] for name in ("keys", "images", "jsons", "texts")}
            return ShardIndex(**arrays, cut_short=bool(stored["cut_short"]))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _save(index_path: Path, index: ShardIndex, stamp: NDArray[np.int64]) -> None:
    arrays: dict[str, Any] = {
        "keys": index.keys,
        "images": index.images,
        "jsons": index.jsons,
        "texts": index.texts,
    }
    with contextlib.suppress(WriteFailed), replacing(index_path) as draft, open(draft, "wb") as stream:
        np.savez(stream, stamp=stamp, cut_short=np.array(index.cut_short), **arrays)
