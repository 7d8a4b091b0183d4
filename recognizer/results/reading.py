"""Read the rows of an earlier run: JSON lines, also unfinished ones, the journal of a table, or Parquet alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recognizer.errors import RecognizerError
from recognizer.results.errors import ResultsUnreadable
from recognizer.results.row import Row, box_key, parse_row
from recognizer.results.run_files import find_run_files, infer_format
from recognizer.results.run_info import RunInfo

LINES_PER_BATCH = 1024  # of Parquet; each has the evidence of one candidate, about 2 KB
_REMEDY = "name the file that `run` wrote as its --output"


@dataclass(slots=True)
class StoredResults:
    """Results on disk.

    Attributes:
        path: the file that was named.
        info: what made them; None where nothing beside the file says it.
        source: the file that is read: the journal, or a Parquet file without one.
        damaged: lines that hold no row, counted by the latest `rows`. The last line of a killed run is one.
    """

    path: Path
    info: RunInfo | None
    source: Path
    damaged: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the run has written all its rows; True where nothing tells."""
        return self.info is None or self.info.state == "finished"

    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order in the file; of several rows of one image or box the last one.

        Raises:
            ResultsUnreadable: not one line of the file is a row.
        """
        self.damaged = 0
        read = 0
        try:
            for content in self._contents():
                try:
                    row = parse_row(content)
                except (KeyError, TypeError, ValueError, AttributeError):
                    self.damaged += 1
                    continue
                read += 1
                yield row
        except OSError as error:
            raise ResultsUnreadable(f"{self.path} cannot be read: {error.strerror or error}") from error
        if self.damaged and not read and self.is_finished:
            raise ResultsUnreadable(f"{self.path} holds no results of `run`; {_REMEDY}")

    def _contents(self) -> Iterator[Any]:
        if self.source.suffix in (".parquet", ".pq"):
            yield from _parquet_rows(self.source)
            return
        replaced = frozenset[int]() if self.is_finished else _replaced_lines(self.source)
        with open(self.source, "rb") as stream:
            for number, line in enumerate(stream):
                if number not in replaced:
                    yield _json_value(line)


def open_stored(path: Path) -> StoredResults:
    """Open the results of a run, whatever their format.

    Args:
        path: the output of `run` or `rerank`. A CSV file is read by its journal, for it does not hold all evidence.

    Raises:
        ResultsUnreadable: there is no such file, or its rows cannot be had.
    """
    try:
        files = find_run_files(path, infer_format(path))
    except RecognizerError as error:
        raise ResultsUnreadable(f"{error}") from error
    if files.journal.exists():
        return StoredResults(path, files.read_info(), files.journal)
    if not path.exists():
        raise ResultsUnreadable(f"there is no file {path}; {_REMEDY}")
    if infer_format(path) == "parquet":
        return StoredResults(path, files.read_info(), path)
    raise ResultsUnreadable(
        f"{path} holds only a part of the evidence, and {files.journal.name} is not beside it; put it there, or use "
        "results in JSON lines or Parquet"
    )


def _json_value(line: bytes) -> Any:  # noqa: ANN401  any JSON value
    try:
        return json.loads(line)
    except ValueError:
        return None


def _replaced_lines(path: Path) -> frozenset[int]:
    """Return the numbers of the lines that a later one of the same image or box replaces, in an unfinished journal."""
    last: dict[str, int] = {}
    replaced: list[int] = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream):
            try:
                content = json.loads(line)
                box = content.get("box")
                key = box_key(content["path"], None if box is None else box["id"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if key in last:
                replaced.append(last[key])
            last[key] = number
    return frozenset(replaced)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON values of the rows of a Parquet file, which has a line per image and rank."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(LINES_PER_BATCH))
            yield from _joined(itertools.chain.from_iterable(batches))
    except pa.ArrowException as error:
        raise ResultsUnreadable(f"{path} is no Parquet file that can be read: {error}") from error


def _joined(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Join the records of each image, as `flatten_row` made them, to a row."""
    gathered: list[Mapping[str, Any]] = []
    for record in records:
        if gathered and record.get("rank") in (None, 1):
            yield _row(gathered)
            gathered = []
        gathered.append(record)
    if gathered:
        yield _row(gathered)


def _row(records: list[Mapping[str, Any]]) -> dict[str, Any]:
    first = records[0]
    ranked = [record for record in records if record.get("rank") is not None]
    groups = {
        record["group"]: record["group_confidence"] for record in ranked if record.get("group_confidence") is not None
    }
    row = {
        name: first.get(name)
        for name in (
            *("path", "path_b64", "box", "status", "width", "height", "calibrated", "unknown", "labels"),
            *("label", "label_level", "label_path", "source"),
        )
    }
    return row | {
        "confidence": first.get("label_confidence"),
        "group_confidence": groups or None,
        "candidates": [
            {name: record[name] for name in ("category", "group", "score", "confidence", "evidence")}
            for record in ranked
        ],
        "rerank": json.loads(first["rerank"]) if first.get("rerank") else None,
        "error": {"code": first.get("error_code"), "reason": first.get("error_reason")},
    }
