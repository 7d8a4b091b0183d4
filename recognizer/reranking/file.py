"""Reranks earlier results without an encoder; only the images that the MLLM is asked about are read again."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory import Memory, MemoryStoreError
from recognizer.images import ImageItem
from recognizer.images.key import key_from_display
from recognizer.memory_settings import carried_settings
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch, rerank_in_background
from recognizer.results import (
    BatchTiming,
    ImageStamp,
    ResultRow,
    Row,
    RowSink,
    RunInfo,
    RunSetup,
    encode_row,
    todo_batches,
)
from recognizer.results.errors import ResultsUnreadable
from recognizer.results.reading import open_stored
from recognizer.settings import Settings
from rerank.base import ANSWERED

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker


# Some images of a folder may be gone; if all of the first ones are, it is the wrong folder.
FIRST_IMAGES = 100


@dataclass(frozen=True, slots=True)
class EarlierResults:
    """Results to rerank.

    Attributes:
        rows: as written.
        info: of the run that wrote them.
        root: the folder that their paths are relative to.
    """

    rows: Sequence[Row]
    info: RunInfo
    root: Path

    @property
    def results(self) -> list[ResultRow]:
        """The rows of images that were recognised."""
        return [row for row in self.rows if isinstance(row, ResultRow)]


def read_results(path: Path, root: Path | None = None) -> EarlierResults:
    """Read the results of a run.

    Args:
        path: the output of `run` or `rerank`.
        root: the folder of the images; None: the one that the run names.

    Raises:
        ResultsUnreadable: there are none, the run is not finished, rows are damaged, nothing says what made them, or
            the images are not in the folder.
    """
    rows, info = open_stored(path).finished()
    earlier = EarlierResults(rows, info, root or Path(info.input_root))
    _require_images(earlier, path)
    return earlier


def _require_images(earlier: EarlierResults, path: Path) -> None:
    """Refuse if none of the first images exists: the folder was moved, or `--images` names the wrong one."""
    first = [image for row in earlier.results[:FIRST_IMAGES] if (image := image_to_rank(row, earlier.root))]
    if first and not any(os.path.exists(image.item.path) for image in first):
        raise ResultsUnreadable(
            f"the images of {path} (such as {first[0].item.key}) are not in {earlier.root}; say where they are with "
            "--images FOLDER"
        )


def earlier_settings(earlier: EarlierResults, *, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the settings of the run that made the results, with those that were fitted for its memory since.

    Args:
        earlier: the results.
        warn: called with a sentence if the memory has changed, or its calibration belongs to another one.
    """
    base = {name: earlier.info.settings[name] for name in ("score", "images") if name in earlier.info.settings}
    if not base.get("score", {}).get("calibrated"):  # a threshold without effect, which settings now refuse
        base["score"] = {key: value for key, value in base.get("score", {}).items() if key != "unknown_threshold"}
    try:
        memory = Memory.open(str(earlier.info.memory["path"]))
    except MemoryStoreError:  # moved, or gone; the results stand on their own
        return base
    made_with = earlier.info.memory
    same = memory.digest == made_with["digest"] if "digest" in made_with else memory.version == made_with.get("version")
    if not same:
        if warn is not None:
            warn("the memory has changed since these results were made; what calibration fitted for it is not used")
    else:
        base["rerank"] = {k: v for k, v in carried_settings(memory, warn=warn).get("rerank", {}).items() if k != "when"}
    return base


def rerank_setup(earlier: EarlierResults, settings: Settings, source: Path) -> RunSetup:
    """Describe the reranking for the run.json of its output."""
    info = earlier.info
    return RunSetup(
        command=sys.argv,
        model=info.model,
        memory=info.memory,
        settings={**info.settings, "rerank": settings.rerank.decisive(), "reranked": str(source)},
        device=info.device,
        input_root=str(earlier.root),
        category_ids=info.category_ids,
        image_ids=info.image_ids,
    )


def rerank_into(
    earlier: EarlierResults, settings: Settings, sink: RowSink, reranker: MllmReranker
) -> Generator[list[Row], None, None]:
    """Rerank the rows that the sink does not have yet, write them, and yield them, batch by batch.

    Rows that an MLLM has ranked already are written unchanged, for they no longer hold retrieval's confidences.
    """

    def batches() -> Iterator[RowBatch]:
        for numbers in todo_batches(sink, settings.run.batch_size):
            rows = [earlier.rows[number] for number in numbers]
            images = [image_to_rank(row, earlier.root) for row in rows]
            yield RowBatch(rows, images, BatchTiming(decode_s=0, encode_s=0, score_s=0), [*map(stamp_row, rows)])

    reranked = rerank_in_background(batches(), reranker, settings.rerank, score=settings.score, limits=settings.images)
    with closing(reranked):
        for batch in reranked:
            sink.write(batch.rows, timing=batch.timing, images=batch.stamps)
            yield batch.rows


def stamp_row(row: Row) -> ImageStamp:
    """Return the stamp of a row: where the results have another row for an image, it is reranked again."""
    line = encode_row(row)
    return ImageStamp(len(line), 0, hashlib.sha256(line).hexdigest())


def is_ranked(row: Row) -> bool:
    """Tell whether an MLLM has ranked the candidates of the row already."""
    return isinstance(row, ResultRow) and row.rerank is not None and row.rerank.get("status") in ANSWERED


def image_to_rank(row: Row, root: Path) -> RankedImage | None:
    """Return the image of a row; None if the row is not to be reranked.

    A missing file fails when its question is asked; the row then says so.
    """
    if not isinstance(row, ResultRow) or row.status == "empty" or is_ranked(row):
        return None
    key = key_from_display(row.path)
    return RankedImage(ImageItem(key, os.path.join(os.fsencode(root), key)))
