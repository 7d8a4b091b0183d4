"""The actors that read and decode images. They need no model, and do not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from PIL import Image

from recognizer.images.decode import DecodedImage
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
        ("pixels", pa.large_binary()),  # a batch of large images has more bytes than 32 bits count
        ("sizes_hw", pa.list_(pa.int32())),
        ("sha256", pa.string()),
        ("format", pa.string()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Columns that a decoder adds to those of `item_table`; the format is that of images that were not fitted."""


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
        fit: of an encoder, to whose input images are resized; None: they stay as they are decoded.
        target_size_hw: without a fit, the smallest size at which images may be decoded; None: full size.
    """

    def __init__(self, limits: ImageLimits, fit: Fit | None, target_size_hw: tuple[int, int] | None = None) -> None:
        """Start nothing yet."""
        self._task = Task(limits, target_size_hw if fit is None else fit.size_hw, fit)
        self._pool = WorkerPool(1)
        self._threads = ThreadPoolExecutor(_FETCHES, "fetch")

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode a batch: adds the pixels, their sizes and the hash of the file, or an error in their place."""
        columns = pa.Table.from_pylist(list(self._threads.map(self._decode, table["file"].to_pylist())), DECODED)
        for name in columns.column_names:
            table = table.append_column(name, columns[name])
        return table

    def _decode(self, path: bytes) -> dict[str, Any]:
        try:
            if self._task.fit is not None:
                fitted, sha256 = self._pool.decode_fitted(path, self._task)
                sizes_hw = [*fitted.decoded_size_hw, *fitted.displayed_size_hw]
                return {"pixels": fitted.pixels.tobytes(), "sizes_hw": sizes_hw, "sha256": sha256}
            whole = self._pool.decode(path, limits=self._task.limits, target_size_hw=self._task.target_size_hw)
        except ImageError as error:
            return {"code": error.code, "reason": error.reason}
        sizes_hw = [whole.image.height, whole.image.width, *whole.displayed_size_hw]
        pixels = whole.image.tobytes()
        return {"pixels": pixels, "sizes_hw": sizes_hw, "sha256": whole.sha256, "format": whole.format}


def decoded_images(table: pa.Table) -> list[DecodedImage | ImageError]:
    """Return the images of a table that `Decoding` returned without a fit."""
    outcomes: list[DecodedImage | ImageError] = []
    for row in table.select(DECODED.names).to_pylist():
        if row["code"] is not None:
            outcomes.append(ImageError(row["code"], row["reason"]))
            continue
        height, width, *displayed_hw = row["sizes_hw"]
        image = Image.frombytes("RGB", (width, height), row["pixels"])
        outcomes.append(DecodedImage(image, (displayed_hw[0], displayed_hw[1]), row["sha256"], row["format"]))
    return outcomes


def table_items(table: pa.Table) -> list[ImageItem]:
    """Return the images of a table that `item_table` made."""
    return [ImageItem(key, path) for key, path in zip(table["key"].to_pylist(), table["file"].to_pylist(), strict=True)]
