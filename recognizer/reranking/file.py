"""Reranking a file of results: no encoder, no memory, only the images of the rows that are asked about."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory import Memory, MemoryStoreError
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem
from recognizer.images.key import key_from_display
from recognizer.memory_settings import carried_settings
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch, rerank_beside
from recognizer.results import BatchTiming, ResultRow, Row, RowSink, RunInfo, RunSetup, read_run_info
from recognizer.results.row import parse_row
from recognizer.results.run_files import find_run_files
from recognizer.results.tables import read_rows
from recognizer.settings import Settings
from rerank.base import ANSWERED

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker


# Some images of a folder may be gone; if so many are, the folder is another one.
MOST_LOOKED_FOR = 100


class ResultsUnreadable(RecognizerError):
    """A file is no JSONL of results, or nothing says where its images are."""


@dataclass(frozen=True, slots=True)
class EarlierResults:
    """Results to rerank.

    Attributes:
        rows: as written.
        info: what made them.
        root: the folder their paths are relative to.
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
        path: JSON lines, as `run` writes them.
        root: the folder of the images; the one that `run.json` names where None.

    Raises:
        ResultsUnreadable: the file is something else, or `run.json` is not beside it.
    """
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        raise ResultsUnreadable(f"{path}: rerank reads results in JSON lines; run with --output NAME.jsonl")
    try:
        rows = [parse_row(content) for content in read_rows(path)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsUnreadable(f"{path} holds no results of `run`: {error}") from error
    info = read_run_info(find_run_files(path, "jsonl").info)
    if info is None or info.output != path.name:
        raise ResultsUnreadable(
            f"no run.json beside {path} says what made it; put the run.json of its run there, or run again"
        )
    if info.state != "finished":
        raise ResultsUnreadable(f"the run that writes {path} is not finished; let it end, or take it up again, first")
    earlier = EarlierResults(rows, info, root or Path(info.input_root))
    _require_images(earlier, path)
    return earlier


def _require_images(earlier: EarlierResults, path: Path) -> None:
    """Refuse where not one of the first images is there: the folder was moved, or `--images` names another."""
    first = [image for row in earlier.results[:MOST_LOOKED_FOR] if (image := ranked_image(row, earlier.root))]
    if first and not any(os.path.exists(image.item.path) for image in first):
        raise ResultsUnreadable(
            f"the images of {path} (such as {first[0].item.key}) are not in {earlier.root}; say where they are with "
            "--images FOLDER"
        )


def carried_by(earlier: EarlierResults, *, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the settings that the results were made under, with what was fitted for their memory since.

    Args:
        earlier: the results.
        warn: called with a sentence where a calibration is there and does not belong to the memory.
    """
    base = {name: earlier.info.settings[name] for name in ("score", "images") if name in earlier.info.settings}
    try:
        memory = Memory.open(str(earlier.info.memory["path"]))
    except MemoryStoreError:  # moved, or gone; the results stand on their own
        return base
    if memory.version != earlier.info.memory.get("version"):
        if warn is not None:
            warn("the memory has changed since these results were made; what calibration fitted for it is not used")
    else:
        base["rerank"] = {k: v for k, v in carried_settings(memory, warn=warn).get("rerank", {}).items() if k != "when"}
    return base


def rerank_setup(earlier: EarlierResults, settings: Settings, source: Path) -> RunSetup:
    """Describe the reranking of results for their `run.json`."""
    info = earlier.info
    before: dict[str, Any] = dict(info.settings)
    return RunSetup(
        command=sys.argv,
        model=info.model,
        memory=info.memory,
        settings=before | {"rerank": settings.rerank.decisive(), "reranked": str(source)},
        device=info.device,
        input_root=str(earlier.root),
    )


def rerank_into(
    earlier: EarlierResults, settings: Settings, sink: RowSink, reranker: MllmReranker
) -> Iterator[list[Row]]:
    """Rerank the rows that the sink still wants, write them, and yield them, batch by batch.

    Rows that an MLLM has ordered already are written as they are: retrieval's confidences are gone from them.
    """

    def batches() -> Iterator[RowBatch]:
        for batch in sink.pending():
            rows = list(earlier.rows[batch.start : batch.stop])
            images = [ranked_image(row, earlier.root) for row in rows]
            yield RowBatch(batch.number, rows, images, BatchTiming(decode_s=0, encode_s=0, score_s=0))

    for batch in rerank_beside(batches(), reranker, settings.rerank, score=settings.score, limits=settings.images):
        sink.write(batch.number, batch.rows, timing=batch.timing)
        yield batch.rows


def is_ranked(row: Row) -> bool:
    """Tell whether an MLLM has ordered the row's candidates already."""
    return isinstance(row, ResultRow) and row.rerank is not None and row.rerank.get("status") in ANSWERED


def ranked_image(row: Row, root: Path) -> RankedImage | None:
    """Name the image of a row; None where the row is not to be reranked.

    A file that is gone is found out when it is asked about; its row then says so.
    """
    if not isinstance(row, ResultRow) or is_ranked(row):
        return None
    key = key_from_display(row.path)
    return RankedImage(ImageItem(key, os.path.join(os.fsencode(root), key)))
