"""Pictures of results: the image with the regions that speak for its best category, for one row or a whole run."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from memory.durable import replacing
from recognizer.errors import RecognizerError
from recognizer.images import ImageError, ImageLimits, draw_evidence
from recognizer.images.key import key_from_display
from recognizer.images.walk import is_pattern, split_pattern
from recognizer.images.workers import WorkerPool
from recognizer.results import EvidenceRow, ResultRow, encode_row
from recognizer.results.row import ROLLED_UP, Row

# A description that fits its best region much worse than the category's other texts fit theirs says little about the
# image: on the demo's photographs "cloud of smoke" (0.06 beside a mean of 0.20) and "whiskers" (0.07 beside 0.18) are
# below this share of the mean, "small spoon" (0.25 beside 0.32) is not.
LEAST_SHARE = 0.7
# Overlap (IoU) above which two boxes are one: the regions of a decoder often find the same thing to a few pixels.
SAME_BOX_IOU = 0.8
MOST_BOXES = 3
MOST_LINES = 5  # per box
# Captions can be read at this size, and a large photograph decodes and draws in a fraction of the time.
_PICTURE_SIDE = 1024
_DRAWING = 1  # counted up when pictures of equal rows come to look different, so that they are drawn again
_SUFFIX = ".evidence.jpg"
# Folders whose names could be taken for pictures or lead out of a folder; see `picture_path`.
_AMBIGUOUS = re.compile(rb"(?:.*\.evidence\.jpg|\.\.?)_*\Z", re.DOTALL)
_LONGEST_NAME = 240  # bytes; usual file systems take 255, and a file has a longer name while it is written


def draw_row(image: Image.Image, row: ResultRow, *, displayed_size_hw: tuple[int, int] | None = None) -> Image.Image:
    """Draw the evidence for the first candidate of a row.

    Args:
        image: the picture.
        row: its result.
        displayed_size_hw: the frame of the boxes; that of `image` where None.
    """
    if not row.candidates:
        return draw_evidence(image, [], [], title="no categories to compare")
    best = row.candidates[0]
    title = f"{best.confidence:.0%} {best.category}"
    if row.status == "below":
        title = f"no label; nearest: {title}"
    if row.source == ROLLED_UP:
        title = f"{row.confidence:.0%} {row.label}; nearest: {title}"
    boxes, captions = evidence_boxes(best.evidence)
    if row.box is not None:  # first, so that it lies on top
        said = [] if row.box.category is None else [f"given as {row.box.category}"]
        boxes, captions = [row.box.xyxy, *boxes], [[title, *said], *captions]
    return draw_evidence(image, boxes, captions, title=title, displayed_size_hw=displayed_size_hw)


def evidence_boxes(
    evidence: Sequence[EvidenceRow],
) -> tuple[list[Sequence[float] | None], list[list[str]]]:
    """Choose what is drawn of a category's evidence: the strongest regions, each with the texts it matched.

    Pieces whose value is below `LEAST_SHARE` of the mean over the category's regions are left out, and boxes that
    coincide are one, that of the strongest piece.

    Args:
        evidence: of one candidate, strongest first.

    Returns:
        Boxes, at most `MOST_BOXES`, and for each its lines: value and text. Where no region reached the
        threshold, or none resembles a text, a single line without a box says so.
    """
    pieces = [piece for piece in evidence if piece.box_xyxy is not None]
    if not pieces:
        return [None], [["no region evidence: none stands out, the whole image was compared"]]
    least = LEAST_SHARE * sum(piece.value for piece in pieces) / len(pieces)
    boxes: list[Sequence[float] | None] = []
    matched: list[dict[str, float]] = []
    for piece in pieces:
        if piece.value < least or piece.value <= 0 or piece.box_xyxy is None:
            continue
        place = next((i for i, box in enumerate(boxes) if box and _overlap(box, piece.box_xyxy) >= SAME_BOX_IOU), None)
        if place is None:
            place = len(boxes)
            boxes.append(piece.box_xyxy)
            matched.append({})
        matched[place].setdefault(piece.description, piece.value)
    if not boxes:
        return [None], [["no region evidence: no region resembles a text of the category"]]
    lines = [[f"{value:.2f} {text}" for text, value in texts.items()][:MOST_LINES] for texts in matched]
    return boxes[:MOST_BOXES], lines[:MOST_BOXES]


def picture_path(folder: Path, key: str) -> Path:
    """Name the picture of an image: distinct keys have distinct names, all inside the folder.

    Args:
        folder: of the pictures.
        key: of the row, which begins with the path of its image; an absolute one counts as relative to the root.

    Returns:
        The folder, the folders of the key, and its file name with `.evidence.jpg`. A part that could be mistaken for
        such a name, or that leads upwards, ends in `_`; a name that is too long is cut and ends in a hash of it.
    """
    *parents, name = [part for part in key_from_display(key).split(b"/") if part] or [b"image"]
    parts = [parent + b"_" if _AMBIGUOUS.match(parent) else parent for parent in parents]
    file = name + os.fsencode(_SUFFIX)
    if len(file) > _LONGEST_NAME:
        ending = b"-" + hashlib.sha256(name).hexdigest()[:16].encode() + os.fsencode(_SUFFIX)
        file = name[: _LONGEST_NAME - len(ending)] + ending
    return Path(folder, *map(os.fsdecode, (*parts, file)))


def require_apart(folder: Path, inputs: Sequence[str]) -> None:
    """Check that pictures would not lie among the images of the next run.

    Raises:
        RecognizerError: the folder is inside one that is searched for images.
    """
    absolute = os.path.abspath(folder)
    for source in inputs:
        if os.path.isdir(source):
            searched = os.path.abspath(source)
        elif is_pattern(os.fsencode(source)) and not os.path.exists(source) and "**" in source:
            searched = os.path.abspath(os.fsdecode(split_pattern(os.fsencode(source))[0] or b"."))
        else:
            continue
        if os.path.commonpath([absolute, searched]) == searched:
            raise RecognizerError(
                f"the pictures would lie in {searched}, where the next run would take them for images; choose a folder "
                "outside of it for --pictures"
            )


def draw_pictures(
    rows: Iterable[Row], root: Path, folder: Path, *, limits: ImageLimits, workers: int = 0
) -> Iterator[ImageError | None]:
    """Draw the evidence of a run, several pictures at a time; one that was drawn from the same row is kept.

    Args:
        rows: of the run; an error row has no picture.
        root: the folder that the paths of the rows are relative to.
        folder: for the pictures, created where it is missing.
        limits: of decoding.
        workers: pictures drawn at a time, each with a decoding process; 0: one per core.

    Yields:
        Per row None, or why its image could not be decoded again.

    Raises:
        WriteFailed: a picture cannot be written.
    """
    workers = workers or os.cpu_count() or 1
    decoder = WorkerPool(workers)

    def draw(row: Row) -> ImageError | None:
        if not isinstance(row, ResultRow) or row.status == "empty":
            return None
        path, content = picture_path(folder, row.key), _content(row)
        if _drawn_from(path) == content:
            return None
        image_path = os.path.join(os.fsencode(root), key_from_display(row.path))
        try:
            decoded = decoder.decode(image_path, limits=limits, target_size_hw=(_PICTURE_SIDE, _PICTURE_SIDE))
        except ImageError as error:
            return error
        reduced = decoded.image
        reduced.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
        picture = draw_row(reduced, row, displayed_size_hw=decoded.displayed_size_hw)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            picture.save(draft, "JPEG", quality=88, comment=content)
        return None

    waiting: deque[Future[ImageError | None]] = deque()
    remaining = iter(rows)
    with ThreadPoolExecutor(workers, thread_name_prefix="draw") as pool:
        try:
            for row in itertools.islice(remaining, 2 * workers):
                waiting.append(pool.submit(draw, row))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(draw, row) for row in itertools.islice(remaining, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            decoder.close()


def _content(row: ResultRow) -> bytes:
    """Return what a picture carries as its comment: the hash of the row that it was drawn from."""
    return b"recognizer %d %s" % (_DRAWING, hashlib.sha256(encode_row(row)).hexdigest().encode())


def _drawn_from(path: Path) -> object:
    """Return the comment of a picture, None where there is no picture."""
    try:
        with Image.open(path) as picture:
            return picture.info.get("comment")
    except OSError:
        return None


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    import torch  # loads for seconds

    from recognizer.encoder.boxes import pairwise_iou

    one, other = (torch.tensor(box, dtype=torch.float64)[None] for box in (a, b))
    return float(pairwise_iou(one, other))
