r"""Manifests: files with one JSON object per line, each an image with its captions and regions.

    {"image": "a.jpg", "captions": ["a dog"], "regions": [{"box_xyxy": [0, 0, 9, 9], "description": "dog", "score": 1}]}

Boxes are in pixels of the displayed image (EXIF orientation applied).
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.durable import replacing
from recognizer.images import ImageError, ImageLimits
from recognizer.images.file_bytes import read_file_bytes
from training.data.record import BadSample, Fields, RawSample, Record, to_fields
from training.errors import DataError

_MISSING = ("E_NOT_FOUND", "E_NOT_FILE")
# Of one sample's JSON. Parsing takes some ten times the memory; a thousand described boxes take 150 kB.
MOST_JSON_BYTES = 10_000_000


class Manifest:
    """The lines of a manifest as a `Source`; a line is parsed when it is read.

    Attributes:
        path: the manifest.
        parts: always empty.
        block_sizes: one block, the whole file.
    """

    def __init__(self, path: Path, *, images: Path | None = None, limits: ImageLimits | None = None) -> None:
        """Index the lines.

        Args:
            path: the manifest; blank lines are skipped.
            images: folder that relative image paths start from; None: the manifest's folder.
            limits: limits of the image files.

        Raises:
            DataError: the file cannot be read or has no lines.
        """
        self.path = path
        self.parts: Counter[str] = Counter()
        self._images = path.parent if images is None else images
        self._limits = limits or ImageLimits()
        try:
            self._spans = _line_spans(path)
        except OSError as error:
            raise DataError(f"{path}: the manifest cannot be read: {error.strerror}") from error
        if not len(self._spans):
            raise DataError(f"{path}: the manifest has no lines")
        self.block_sizes: Sequence[int] = (len(self._spans),)

    def __len__(self) -> int:
        """Count the lines."""
        return len(self._spans)

    def read(self, row: int) -> RawSample:
        """Read a line and the image file it names; see `Source.read`."""
        start, end = (int(offset) for offset in self._spans[row])
        with open(self.path, "rb") as stream:
            stream.seek(start)
            fields = parse_line(stream.read(min(end - start, MOST_JSON_BYTES + 1)))
        image = fields.get("image")
        if not isinstance(image, str) or not image:
            raise BadSample("no image path")
        return RawSample(image, self._image_bytes(image), fields)

    def _image_bytes(self, image: str) -> bytes:
        try:
            return read_file_bytes(self._images / image, max_bytes=self._limits.max_file_bytes)
        except ImageError as error:
            raise BadSample("missing image" if error.code in _MISSING else unreadable(error)) from None


def parse_line(line: bytes) -> Fields:
    """Parse one JSON object.

    Raises:
        BadSample: the line is too long, not JSON, or not an object.
    """
    if len(line) > MOST_JSON_BYTES:
        raise BadSample(f"JSON of more than {MOST_JSON_BYTES} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise BadSample("not JSON") from None
    if not isinstance(value, Mapping):
        raise BadSample("not a JSON object")
    return value


def unreadable(error: ImageError) -> str:
    """Return the reason under which an unusable image is counted."""
    return f"unreadable image ({error.code})"


def write_manifest(path: Path, entries: Iterable[tuple[str, Record]]) -> int:
    """Write a manifest atomically.

    Args:
        path: the file; an existing one is replaced.
        entries: image path and record of each line.

    Returns:
        The number of lines.

    Raises:
        memory.errors.WriteFailed: the file cannot be written.
    """
    return write_lines(path, ({"image": image, **to_fields(record)} for image, record in entries))


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write a manifest of JSON objects atomically, which may have further fields; otherwise as `write_manifest`."""
    count = 0
    with replacing(path) as draft, open(draft, "w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _line_spans(path: Path) -> NDArray[np.int64]:
    """Return (N, 2) int64: the first byte of each line that is not blank, and the byte after its last."""
    spans = array("q")  # 16 bytes a line; a list of tuples took 144
    start = 0
    with open(path, "rb") as stream:
        for line in stream:
            if not line.isspace():
                spans.extend((start, start + len(line)))
            start += len(line)
    return np.frombuffer(spans, dtype=np.int64).reshape(-1, 2)
