"""The pictures of a report: small copies of the images, or of what surrounds a box, upright and without metadata."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from recognizer.images.errors import ImageError
from recognizer.images.file_bytes import read_file_bytes
from recognizer.images.limits import ImageLimits
from recognizer.images.workers import WorkerPool
from recognizer.report.columns import Columns

PICTURE_SIDE = 512
"""Longer side in pixels: regions can be told apart in it, and a picture takes about 30 KB."""
_SURROUNDINGS = 0.5  # shown around a box, in its longer sides: enough to see what the object is near to
_SMALLEST_FRAME = 64  # pixels of the image; less than that around a tiny box shows nothing
_QUALITY = 82  # of the JPEG; at 75, Pillow's default, fine fur and text are smeared
_DRAWING = 1  # counted up when pictures of equal images come to look different, so that they are made again

Frame = tuple[float, float, float, float]
"""The part of the displayed image that a picture shows: x_min, y_min, x_max, y_max in its pixels."""


@dataclass(frozen=True, slots=True)
class _Job:
    """The rows of one image."""

    place: bytes
    rows: Sequence[int]


@dataclass(slots=True)
class PictureCounts:
    """How many rows have a picture.

    Attributes:
        left: rows of an image that were not chosen.
        made: rows that have one.
        outside: chosen rows whose image lies outside of the folder.
        unreadable: chosen rows whose image cannot be read now.
    """

    left: int = 0
    made: int = 0
    outside: int = 0
    unreadable: int = 0


def choose_rows(columns: Columns, most: int) -> tuple[list[int], int]:
    """Choose the rows that get a picture: all whose image was recognised, or those of the smallest margin.

    These are the ones that need looking at.

    Returns:
        Their numbers, ascending; and how many rows were not chosen.
    """
    seen = [number for number, margin in enumerate(columns.margin) if margin is not None]
    chosen = sorted(sorted(seen, key=lambda number: columns.margin[number] or 0.0)[:most])
    return chosen, len(seen) - len(chosen)


def make_pictures(
    columns: Columns,
    rows: Sequence[int],
    places: Sequence[bytes | None],
    folder: Path,
    *,
    earlier: Path | None,
    limits: ImageLimits,
    workers: int,
    advance: Callable[[int], object],
) -> PictureCounts:
    """Make the pictures of some rows, several at a time, and note them in the columns.

    A picture is named after the content of its file, so images that are copies share one, and a picture of an earlier
    report is taken over where its image is still the same.

    Args:
        columns: of the report.
        rows: numbers of the rows, ascending.
        places: the file of each row of the report; None: it must not be opened.
        folder: for the pictures.
        earlier: the folder of an earlier report's pictures; None: there is none.
        limits: of decoding.
        workers: images decoded at a time; 0: one per core.
        advance: called with a number of rows when they are done.

    Raises:
        OSError: a picture cannot be written.
    """
    counts = PictureCounts(outside=sum(places[number] is None for number in rows))
    columns.picture = [None] * len(columns)
    allowed = ((number, places[number]) for number in rows)
    by_place = itertools.groupby(
        ((number, place) for number, place in allowed if place is not None), key=lambda each: each[1]
    )
    jobs = (_Job(place, [number for number, _ in group]) for place, group in by_place)
    maker = _Maker(columns, folder, earlier, limits, WorkerPool(workers := workers or os.cpu_count() or 1))
    for job, made in _in_turn(jobs, maker.make, workers):
        for number, picture in zip(job.rows, made, strict=True):
            columns.picture[number] = picture
            counts.made += picture is not None
            counts.unreadable += picture is None
        advance(len(job.rows))
    return counts


def _in_turn(
    jobs: Iterator[_Job], make: Callable[[_Job], list[list[object] | None]], workers: int
) -> Iterator[tuple[_Job, list[list[object] | None]]]:
    """Yield each job with its pictures, in order, while the next ones are worked on."""
    waiting: deque[tuple[_Job, Future[list[list[object] | None]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="thumbs") as pool:
        try:
            waiting.extend((job, pool.submit(make, job)) for job in itertools.islice(jobs, 2 * workers))
            while waiting:
                job, made = waiting.popleft()
                yield job, made.result()
                waiting.extend((job, pool.submit(make, job)) for job in itertools.islice(jobs, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Maker:
    """Makes the pictures of one image."""

    def __init__(
        self, columns: Columns, folder: Path, earlier: Path | None, limits: ImageLimits, decoder: WorkerPool
    ) -> None:
        self._columns = columns
        self._folder = folder
        self._earlier = earlier
        self._limits = limits
        self._decoder = decoder

    def make(self, job: _Job) -> list[list[object] | None]:
        """Return for each row the name and the frame of its picture; None for an image that cannot be read."""
        try:  # with the limits of an image: a path of a row may lead to a pipe, or to a file of any size
            data = read_file_bytes(job.place, max_bytes=self._limits.max_file_bytes)
        except ImageError:
            return [None] * len(job.rows)
        content = hashlib.sha256(data).hexdigest()
        image = _Decoded(self._decoder, job.place, self._limits)
        return [self._picture(number, content, image) for number in job.rows]

    def _picture(self, number: int, content: str, image: _Decoded) -> list[object] | None:
        box, size_wh = self._columns.box[number], self._columns.size_wh[number]
        edges = None if box is None else box[1]
        try:
            if size_wh is None:  # a row of an earlier release
                size_wh = image.displayed_size_wh
            frame = whole_frame(size_wh) if edges is None else frame_of(edges, size_wh)
            name = hashlib.sha256(f"{_DRAWING} {content} {frame}".encode()).hexdigest()[:24] + ".jpg"
            path = self._folder / name
            if not path.exists() and not self._taken_over(path, name):
                _save(image.part(frame, size_wh), path)
        except ImageError:
            return None
        return [name, *(round(edge, 2) for edge in frame)]

    def _taken_over(self, path: Path, name: str) -> bool:
        if self._earlier is None:
            return False
        with suppress(OSError):
            os.link(self._earlier / name, path, follow_symlinks=False)
            return True
        return False


class _Decoded:
    """An image that is decoded when it is needed, and then kept for the other boxes of it."""

    def __init__(self, decoder: WorkerPool, place: bytes, limits: ImageLimits) -> None:
        self._decoder = decoder
        self._place = place
        self._limits = limits
        self._full: tuple[Image.Image, tuple[int, int]] | None = None
        self._reduced: tuple[Image.Image, tuple[int, int]] | None = None

    @property
    def displayed_size_wh(self) -> tuple[int, int]:
        """Of the image as a viewer shows it."""
        return self._decode(full=False)[1]

    def part(self, frame: Frame, size_wh: tuple[int, int]) -> Image.Image:
        """Return a small picture of a part of the image, which is given in pixels of an image of this size."""
        whole = frame == whole_frame(size_wh)
        image, _ = self._decode(full=not whole)
        if not whole:
            scale_x, scale_y = image.width / size_wh[0], image.height / size_wh[1]
            x0, y0, x1, y1 = frame
            left, top = int(x0 * scale_x), int(y0 * scale_y)
            image = image.crop((left, top, max(left + 1, round(x1 * scale_x)), max(top + 1, round(y1 * scale_y))))
        picture = image.copy()
        picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        return picture

    def _decode(self, *, full: bool) -> tuple[Image.Image, tuple[int, int]]:
        done = self._full or (None if full else self._reduced)
        if done is not None:
            return done
        target = None if full else (PICTURE_SIDE, PICTURE_SIDE)
        decoded = self._decoder.decode(self._place, limits=self._limits, target_size_hw=target)
        height, width = decoded.displayed_size_hw
        done = (decoded.image, (width, height))
        if full:
            self._full = done
        else:
            self._reduced = done
        return done


def whole_frame(size_wh: tuple[int, int]) -> Frame:
    """Return the frame of a picture of the whole image."""
    return (0.0, 0.0, float(size_wh[0]), float(size_wh[1]))


def frame_of(box: Sequence[float], size_wh: tuple[int, int]) -> Frame:
    """Return the part of an image that is shown for a box: the box and some of its surroundings.

    Args:
        box: x_min, y_min, x_max, y_max in pixels of the displayed image; may reach beyond it.
        size_wh: of that image.
    """
    x0, x1 = sorted(min(max(edge, 0), size_wh[0]) for edge in box[::2])
    y0, y1 = sorted(min(max(edge, 0), size_wh[1]) for edge in box[1::2])
    longer = max(x1 - x0, y1 - y0)
    around = max(_SURROUNDINGS * longer, (_SMALLEST_FRAME - longer) / 2)
    left, top = (int(min(max(0, start - around), length - 1)) for start, length in zip((x0, y0), size_wh, strict=True))
    right, bottom = (round(min(end + around, length)) for end, length in zip((x1, y1), size_wh, strict=True))
    return (float(left), float(top), float(max(right, left + 1)), float(max(bottom, top + 1)))


def jpeg_bytes(picture: Image.Image) -> bytes:
    """Return a picture as a JPEG without metadata."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture; two threads that write equal ones do not meet."""
    draft = path.with_suffix(f".{os.urandom(4).hex()}")
    draft.write_bytes(jpeg_bytes(picture))
    os.replace(draft, path)


def size_in_bytes(folder: Path) -> int:
    """Return the size of all pictures in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())
