"""Read the rows of an earlier run: JSON lines, a table by its journal, Parquet alone, or a folder that Ray filled."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.wording import counted
from recognizer.errors import RecognizerError
from recognizer.results.errors import ResultsUnreadable
from recognizer.results.journal import read_journal
from recognizer.results.ledger import read_ledger
from recognizer.results.row import Row, box_key, parse_row
from recognizer.results.run_files import find_run_files, infer_format
from recognizer.results.run_info import RunInfo, read_run_info
from recognizer.results.shards import INFO_NAME, shards_of

if TYPE_CHECKING:
    import pyarrow as pa

LINES_PER_BATCH = 1024  # of Parquet; each has the evidence of one candidate, about 2 KB
_REMEDY = "name the file that `run` wrote as its --output"


@dataclass(slots=True)
class StoredResults:
    """Results on disk.

    Attributes:
        path: the file or folder that was named.
        info: what made them; None where nothing beside them says it.
        source: what is read: the journal, a Parquet file without one, or a folder of Parquet files.
        ledger: what vouches for the rows of the journal; None where nothing does.
        damaged: lines that hold no row, counted by the latest `rows`. The last line of a killed run is one.
    """

    path: Path
    info: RunInfo | None
    source: Path
    ledger: Path | None = None
    damaged: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the run has written all its rows; True where nothing tells."""
        return self.info is None or self.info.state == "finished"

    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order in the file; of several rows of one image or box the last one.

        Those of a folder come in the order of their paths, which is that of a run over a folder of images.

        Raises:
            ResultsUnreadable: not one line is a row, or a Parquet file is damaged.
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

    def finished(self) -> tuple[list[Row], RunInfo]:
        """Return all rows of a finished run, each of them intact, and what made them.

        Raises:
            ResultsUnreadable: the run is not finished, nothing says what made the rows, or some are damaged or missing.
        """
        rows = list(self.rows())
        if self.info is None:
            name = INFO_NAME if self.source.is_dir() else f"{self.path.name}.run.json"
            if self.path.with_name(name).exists() and not self.source.is_dir():
                raise ResultsUnreadable(
                    f"{name} says that it belongs to another output than {self.path.name}; give the files of a run "
                    "their earlier names, or run again"
                )
            raise ResultsUnreadable(
                f"no run.json says what made {self.path}; put the {name} of its run there, or run again"
            )
        if not self.is_finished:
            raise ResultsUnreadable(f"the run that writes {self.path} is not finished; let it end, or resume it, first")
        damaged = self.damaged
        if self.ledger is not None and self.ledger.exists():  # results of earlier releases have none
            damaged = max(damaged, read_journal(self.source, read_ledger(self.ledger)).damaged)
        if damaged:
            raise ResultsUnreadable(
                f"{self.path}: damaged or missing: {counted(damaged, 'row')}; repeat its run to have them again"
            )
        if len(rows) != self.info.count:
            raise ResultsUnreadable(
                f"{self.path} has {len(rows)} rows for the {self.info.count} images of its run; repeat the run"
            )
        return rows, self.info

    def would_be_damaged_by(self, output: Path) -> bool:
        """Tell whether a path is, or lies in, what holds these results."""
        place, here = output.resolve(), self.path.resolve()
        return place in (here, self.source.resolve()) or here in place.parents

    def _contents(self) -> Iterator[Any]:
        if self.source.is_dir():
            yield from _joined(_lines_by_path(self.source))
            return
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
        path: the output of `run` or `rerank`, a file or the folder that a run on Ray fills. A CSV file is read by its
            journal, for it does not hold all evidence.

    Raises:
        ResultsUnreadable: there is no such file, or its rows cannot be had.
    """
    if path.is_dir():
        info = read_run_info(path / INFO_NAME)
        if info is None and not shards_of(path):
            raise ResultsUnreadable(f"the folder {path} holds no results of a run on Ray; {_REMEDY}")
        return StoredResults(path, info, path)
    try:
        files = find_run_files(path, infer_format(path))
    except RecognizerError as error:
        raise ResultsUnreadable(f"{error}") from error
    if files.journal.exists():
        return StoredResults(path, files.read_info(), files.journal, files.ledger)
    if not path.exists():
        raise ResultsUnreadable(f"there is no file {path}; {_REMEDY}")
    if infer_format(path) == "parquet":
        return StoredResults(path, files.read_info(), path)
    raise ResultsUnreadable(
        f"{path} is no output of `run`, or holds only a part of the evidence, and {files.journal.name} is not beside "
        "it; put it there, or use results in JSON lines or Parquet"
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


def _lines_by_path(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of all Parquet files of a folder in the order of their paths.

    A file is in memory from the first of its paths to the last. Its images are mostly neighbours in the listing, so a
    few files are at a time.
    """
    files = [_sorted_lines(path) for path in shards_of(folder)]
    return (line for _, line in heapq.merge(*files, key=itemgetter(0)) if line is not None)


def _sorted_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the lines of a Parquet file with their paths; before them the first path alone, read without the rest."""
    first = min(_parquet_table(path, ["path"])["path"].to_pylist(), default=None)
    if first is None:
        return
    yield first, None
    table = _parquet_table(path)
    for batch in table.sort_by([("path", "ascending"), ("rank", "ascending")]).to_batches(LINES_PER_BATCH):
        yield from ((line["path"], line) for line in batch.to_pylist())


def _parquet_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read(columns)
    except (pa.ArrowException, KeyError) as error:
        raise ResultsUnreadable(
            f"{path} is damaged: {error}; repeat its run, which does the images of this file again"
        ) from error


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
    groups = first.get("groups")
    if groups is None:  # as in files of earlier releases, which have those of the candidates alone
        own = ((record["group"], record.get("group_confidence")) for record in ranked)
        groups = [(group, confidence) for group, confidence in own if confidence is not None] or None
    row = {
        name: first.get(name)
        for name in (
            *("path", "path_b64", "box", "status", "width", "height", "calibrated", "unknown", "labels"),
            *("label", "label_level", "label_rank", "label_path", "source", "known"),
        )
    }
    return row | {
        "confidence": first.get("label_confidence"),
        "group_confidence": None if groups is None else dict(groups),
        "candidates": [
            {name: record[name] for name in ("category", "group", "score", "confidence", "evidence")}
            | {"ranks": record.get("ranks") or ()}
            for record in ranked
        ],
        "rerank": json.loads(first["rerank"]) if first.get("rerank") else None,
        "error": {"code": first.get("error_code"), "reason": first.get("error_reason")},
    }
