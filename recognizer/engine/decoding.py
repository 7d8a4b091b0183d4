"""The actors that read and decode images. They need no model, and do not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from recognizer.images.errors import ImageError
from recognizer.images.fit import Fit
from recognizer.images.limits import ImageLimits
from recognizer.images.listing import ImageItem
from recognizer.images.worker import Task
from recognizer.images.workers import WorkerPool
from recognizer.results.shards import NUMBER

# Objects of a store are read side by side, each in some 50 ms; decoding them takes turns.
_FETCHES = 8
DECODED = pa.schema(
    [
        ("pixels", pa.binary()),
        ("sizes_hw", pa.list_(pa.int32())),
        ("sha256", pa.string()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Columns that a decoder adds to those of `item_table`."""


def item_table(numbers: Sequence[int], items: Sequence[ImageItem]) -> pa.Table:
    """Return the table of a batch of images, as a decoder takes it."""
    return pa.table(
        {
            NUMBER: pa.array(numbers, pa.int64()),
            "key": pa.array([item.key_bytes for item in items], pa.binary()),
            "file": pa.array([item.path for item in items], pa.binary()),
        }
    )


class Decoding:
    """Reads and decodes images, each in a process that may crash, hang or grow.

    Args:
        limits: of each image.
        fit: of the encoder.
    """

    def __init__(self, limits: ImageLimits, fit: Fit) -> None:
        """Start nothing yet."""
        self._task = Task(limits, fit.size_hw, fit)
        self._pool = WorkerPool(1)
        self._threads = ThreadPoolExecutor(_FETCHES, "fetch")

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode a batch: adds the fitted pixels, their sizes and the hash of the file, or an error in their place."""
        columns = pa.Table.from_pylist(list(self._threads.map(self._decode, table["file"].to_pylist())), DECODED)
        for name in columns.column_names:
            table = table.append_column(name, columns[name])
        return table

    def _decode(self, path: bytes) -> dict[str, Any]:
        try:
            image, sha256 = self._pool.decode_fitted(path, self._task)
        except ImageError as error:
            return {"code": error.code, "reason": error.reason}
        sizes_hw = [*image.decoded_size_hw, *image.displayed_size_hw]
        return {"pixels": image.pixels.tobytes(), "sizes_hw": sizes_hw, "sha256": sha256}


def table_items(table: pa.Table) -> list[ImageItem]:
    """Return the images of a table that `item_table` made."""
    return [ImageItem(key, path) for key, path in zip(table["key"].to_pylist(), table["file"].to_pylist(), strict=True)]
