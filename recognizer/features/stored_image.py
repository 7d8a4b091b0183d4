"""The stored features of one image, with a checksum, and their columns in an Arrow table."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures

REGION_FLOOR = 0.05
"""Regions of less weight are not stored. Thresholds that make sense are far above it: the default is 0.5."""

Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class StoredImage:
    """What is stored of an image that was encoded.

    Attributes:
        sha256: hex digest of the file.
        size_hw: height and width in pixels, as displayed.
        region_count: Q, regions that the encoder returned.
        image: (D,) float16 unit vector of the whole image.
        numbers: (n,) uint16 which of the Q regions are stored, ascending: those of weight `REGION_FLOOR` and more.
        weights: (n,) float32 their weights.
        boxes_xyxy: (n, 4) float32 their boxes, in pixels of the displayed image; float16 would round to 4 pixels at
            8,000.
        regions: (n, D) float16 their unit vectors.
    """

    sha256: str
    size_hw: tuple[int, int]
    region_count: int
    image: Half
    numbers: NDArray[np.uint16]
    weights: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    regions: Half

    @classmethod
    def of(cls, features: ImageFeatures, row: int, *, sha256: str, size_hw: tuple[int, int]) -> StoredImage:
        """Take one image out of a batch whose vectors are rounded to float16 already."""
        numbers = np.flatnonzero(features.region_weight[row] >= REGION_FLOOR)
        return cls(
            sha256=sha256,
            size_hw=size_hw,
            region_count=features.region_weight.shape[1],
            image=features.image[row].astype(np.float16),
            numbers=numbers.astype(np.uint16),
            weights=features.region_weight[row, numbers],
            boxes_xyxy=features.boxes_xyxy[row, numbers],
            regions=features.regions[row, numbers].astype(np.float16),
        )

    def checksum(self) -> int:
        """Compute the CRC-32 of all of it."""
        total = zlib.crc32(json.dumps([self.sha256, *self.size_hw, self.region_count]).encode())
        arrays: tuple[NDArray[Any], ...] = (self.image, self.numbers, self.weights, self.boxes_xyxy, self.regions)
        for array in arrays:
            total = zlib.crc32(np.ascontiguousarray(array).data, total)
        return total


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """An image that cannot be decoded.

    Attributes:
        sha256: hex digest of the file.
        code: of the error.
        reason: one printable line.
    """

    sha256: str
    code: str
    reason: str

    def checksum(self) -> int:
        """Compute the CRC-32 of all of it."""
        return zlib.crc32(json.dumps([self.sha256, self.code, self.reason]).encode())


Stored = StoredImage | StoredFailure


def make_schema(dim: int) -> pa.Schema:
    """Return the columns of the table of an encoder of `dim` dimensions."""
    vector = pa.list_(pa.float16(), dim)
    return pa.schema(
        [
            ("sha256", pa.string()),
            ("code", pa.string()),
            ("reason", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("region_count", pa.int32()),
            ("image", vector),
            ("numbers", pa.list_(pa.uint16())),
            ("weights", pa.list_(pa.float32())),
            ("boxes_xyxy", pa.list_(pa.list_(pa.float32(), 4))),
            ("regions", pa.list_(vector)),
            ("crc32", pa.uint32()),
        ]
    )


def to_table(rows: Sequence[Stored], dim: int) -> pa.Table:
    """Write rows as an Arrow table; a failure has no features and an image of zeros."""
    nothing = StoredImage(
        "",
        (0, 0),
        0,
        np.zeros(dim, np.float16),
        np.zeros(0, np.uint16),
        np.zeros(0, np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((0, dim), np.float16),
    )
    images = [row if isinstance(row, StoredImage) else nothing for row in rows]
    failures = [row if isinstance(row, StoredFailure) else None for row in rows]
    offsets = pa.array(np.cumsum([0, *(len(one.numbers) for one in images)]), pa.int32())

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    def vectors(parts: Sequence[NDArray[Any]], width: int) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(parts).ravel()), width)

    return pa.table(
        [
            pa.array([row.sha256 for row in rows]),
            pa.array([one and one.code for one in failures], pa.string()),
            pa.array([one and one.reason for one in failures], pa.string()),
            pa.array([one.size_hw[0] for one in images], pa.int32()),
            pa.array([one.size_hw[1] for one in images], pa.int32()),
            pa.array([one.region_count for one in images], pa.int32()),
            vectors([one.image for one in images], dim),
            lists(pa.array(np.concatenate([one.numbers for one in images]))),
            lists(pa.array(np.concatenate([one.weights for one in images]))),
            lists(vectors([one.boxes_xyxy for one in images], 4)),
            lists(vectors([one.regions for one in images], dim)),
            pa.array([row.checksum() for row in rows], pa.uint32()),
        ],
        schema=make_schema(dim),
    )


def from_table(table: pa.Table) -> Iterator[Stored]:
    """Yield the rows of a table whose checksum is right; arrays are views of the table."""
    for batch in table.to_batches():
        columns = {name: batch.column(name) for name in batch.schema.names}
        plain = {
            name: columns[name].to_pylist()
            for name in ("sha256", "code", "reason", "height", "width", "region_count", "crc32")
        }
        image = _vectors(columns["image"])
        offsets = columns["regions"].offsets.to_numpy()
        numbers = columns["numbers"].values.to_numpy()
        weights = columns["weights"].values.to_numpy()
        boxes, regions = _vectors(columns["boxes_xyxy"].values), _vectors(columns["regions"].values)
        inner = [columns[name].offsets.to_numpy() for name in ("numbers", "weights", "boxes_xyxy")]
        for row in range(len(batch)):
            sha256, crc32 = plain["sha256"][row], plain["crc32"][row]
            stored: Stored
            if plain["code"][row] is not None:
                stored = StoredFailure(sha256, plain["code"][row], plain["reason"][row])
            else:
                of_numbers, of_weights, of_boxes = (slice(one[row], one[row + 1]) for one in inner)
                stored = StoredImage(
                    sha256=sha256,
                    size_hw=(plain["height"][row], plain["width"][row]),
                    region_count=plain["region_count"][row],
                    image=image[row],
                    numbers=numbers[of_numbers],
                    weights=weights[of_weights],
                    boxes_xyxy=boxes[of_boxes],
                    regions=regions[offsets[row] : offsets[row + 1]],
                )
            if stored.checksum() == crc32:
                yield stored


def _vectors(column: pa.Array) -> NDArray[Any]:
    """Return a column of fixed-size lists as a matrix."""
    width = column.type.list_size
    values: NDArray[Any] = column.values.to_numpy().reshape(-1, width)
    return values[column.offset : column.offset + len(column)]
