"""Convert result rows to tables, CSV and Parquet, with one line per image and rank.

Both start from the records of `flatten_row`. CSV has room for two pieces of evidence per line; Parquet holds all.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from memory.durable import replacing

if TYPE_CHECKING:
    import pyarrow as pa

# What a spreadsheet can run as a formula. Where its list separator is a semicolon or a tab, it splits our cells there
# and at line ends, for the quotes around a cell do not stand at the beginning of what it takes for a cell. It may drop
# spaces and quotes at the beginning.
_FORMULA = re.compile(r"""\A(?=[\t\r\n\0])|(?:\A|(?<=[;\t\r\n]))(?=[ "\0]*[=+\-@\uff1d\uff0b\uff0d\uff20])""")
_IMAGES_PER_ROW_GROUP = 1024  # a row group is built in memory: about 10 MB at five candidates

CSV_COLUMNS = (
    "path",
    "path_b64",
    "status",
    "rank",
    "category",
    "group",
    "score",
    "confidence",
    "calibrated",
    "unknown",
    "group_confidence",
    "labels",
    "width",
    "height",
    "term",
    "description",
    "contribution",
    "region",
    "region_description",
    "x_min",
    "y_min",
    "x_max",
    "y_max",
    "rerank_status",
    "error_code",
    "error_reason",
    "label",
    "label_confidence",
    "label_level",
    "label_path",
    "source",
    "label_rank",
)
BOX_COLUMNS = ("box_id", "box_x_min", "box_y_min", "box_x_max", "box_y_max", "box_category", "box_confidence")
"""Further columns of a run over boxes: the box that was recognised."""


def read_rows(journal: Path) -> Iterator[dict[str, Any]]:
    """Read a journal row by row."""
    with open(journal, "rb") as stream:
        for line in stream:
            yield json.loads(line)


def flatten_row(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split one row into a record for each candidate.

    Args:
        row: a row as `encode_row` writes it, parsed from JSON.

    Returns:
        One record per candidate, `rank` from 1, each with its unchanged `evidence`. For an error or an empty ranking,
        one record without a candidate.
    """
    error = row.get("error") or {}
    rerank = row.get("rerank")
    shared = {
        "path": row["path"],
        "path_b64": row.get("path_b64"),
        "box": row.get("box"),
        "status": row["status"],
        "calibrated": row.get("calibrated"),
        "unknown": row.get("unknown"),
        "labels": row.get("labels"),
        "width": row.get("width"),
        "height": row.get("height"),
        "rerank_status": None if rerank is None else rerank.get("status"),
        "error_code": error.get("code"),
        "error_reason": error.get("reason"),
        **{name: row.get(name) for name in ("label", "label_level", "label_rank", "label_path", "source", "known")},
        "groups": row.get("group_confidence"),
        "label_confidence": row.get("confidence"),  # `confidence` is the candidate's, and a label may be a group
    }
    candidates = row.get("candidates") or []
    groups = row.get("group_confidence") or {}
    records = [
        {
            **shared,
            "rank": rank,
            "category": candidate["category"],
            "group": candidate.get("group", ""),
            "score": candidate["score"],
            "confidence": candidate["confidence"],
            "ranks": candidate.get("ranks"),
            "group_confidence": groups.get(candidate.get("group")),
            "evidence": candidate["evidence"],
        }
        for rank, candidate in enumerate(candidates, start=1)
    ]
    return records or [{**shared, "rank": None, "evidence": []}]


def csv_record(record: Mapping[str, Any]) -> list[object]:
    """Make the cells of one line of CSV from a record.

    Two pieces of evidence are included: the one with the largest contribution, and among those with a box, the one
    with the largest contribution.

    Returns:
        Cells in the order of `CSV_COLUMNS`, and of `BOX_COLUMNS` in a run over boxes; texts neutralised, numbers as
        numbers, None as an empty cell.
    """
    evidence: Sequence[Mapping[str, Any]] = record["evidence"]
    best = max(evidence, key=_contribution, default={})
    boxed = max((piece for piece in evidence if piece["box_xyxy"] is not None), key=_contribution, default={})
    labels = record["labels"]
    cells = {
        **record,
        "labels": None if labels is None else json.dumps([each["category"] for each in labels], ensure_ascii=False),
        "term": best.get("term"),
        "description": best.get("description"),
        "contribution": best.get("contribution"),
        "region": boxed.get("region"),
        "region_description": boxed.get("description"),
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), boxed.get("box_xyxy", ()), strict=False)),
    }
    columns = CSV_COLUMNS + BOX_COLUMNS if about_boxes(record) else CSV_COLUMNS
    return [_cell({**cells, **_box_cells(record["box"])}.get(column)) for column in columns]


def _box_cells(box: Mapping[str, Any] | None) -> dict[str, object]:
    if box is None:
        return {}
    edges = (None,) * 4 if box["xyxy"] is None else box["xyxy"]
    return dict(zip(BOX_COLUMNS, (box["id"], *edges, box["category"], box["confidence"]), strict=True))


def neutralise(text: str) -> str:
    """Put ``'`` before each part of a text that a spreadsheet would run as a formula.

    A part is the text itself, or what follows a semicolon, a tab or a line end in it.
    """
    return _FORMULA.sub("'", text)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return neutralise(value) if isinstance(value, str) else value


def _contribution(piece: Mapping[str, Any]) -> float:
    return float(piece["contribution"])


class CsvLines:
    """Writes rows as lines of CSV to a text stream opened with ``newline=""``.

    Args:
        stream: the stream.
        boxes: whether the rows are about boxes, which takes more columns.
    """

    def __init__(self, stream: IO[str], *, boxes: bool = False) -> None:
        """Write the header."""
        self._writer = csv.writer(stream, lineterminator="\r\n")  # with "\n" it leaves a lone "\r" unquoted
        self._writer.writerow(CSV_COLUMNS + BOX_COLUMNS if boxes else CSV_COLUMNS)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, which are plain JSON values."""
        for row in rows:
            self._writer.writerows(csv_record(record) for record in flatten_row(row))


def about_boxes(row: Mapping[str, Any]) -> bool:
    """Tell whether a row, or a record of it, is of a run over boxes: it has one, or says that its image has none."""
    return row.get("box") is not None or row["status"] == "empty"


def write_csv(journal: Path, output: Path) -> None:
    """Convert a journal to CSV, row by row.

    What a spreadsheet would run as a formula gets a leading ``'``.

    Args:
        journal: the finished journal.
        output: the CSV file, UTF-8, replaced when complete.

    Raises:
        WriteFailed: the disk refuses.
    """
    with replacing(output) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        rows, boxes = _peek(read_rows(journal))
        CsvLines(stream, boxes=boxes).write(rows)


def write_parquet(journal: Path, output: Path) -> None:
    """Convert a journal to Parquet, one row group at a time.

    Args:
        journal: the finished journal.
        output: the Parquet file, replaced when complete.

    Raises:
        WriteFailed: the disk refuses.
    """
    import pyarrow.parquet as pq

    rows, boxes = _peek(read_rows(journal))
    with replacing(output) as draft, pq.ParquetWriter(draft, _schema(boxes=boxes), compression="zstd") as writer:
        while images := list(itertools.islice(rows, _IMAGES_PER_ROW_GROUP)):
            writer.write_table(_table(images, boxes=boxes))


def arrow_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Make a table in memory, with one line per image and rank, from rows, which are plain JSON values."""
    peeked, boxes = _peek(iter(rows))
    return _table(peeked, boxes=boxes)


def _table(rows: Iterable[dict[str, Any]], *, boxes: bool) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(list(_records(rows)), schema=_schema(boxes=boxes))


def _peek(rows: Iterator[dict[str, Any]]) -> tuple[Iterator[dict[str, Any]], bool]:
    """Return the rows, and whether they are about boxes: in a run all of them are, or none."""
    first = list(itertools.islice(rows, 1))
    return itertools.chain(first, rows), any(map(about_boxes, first))


def _records(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        rerank = row.get("rerank")
        text = None if rerank is None else json.dumps(rerank, ensure_ascii=False)
        for record in flatten_row(row):
            groups = record["groups"]
            yield {**record, "rerank": text, "groups": None if groups is None else list(groups.items())}


def _schema(*, boxes: bool) -> pa.Schema:
    import pyarrow as pa

    evidence = pa.struct(
        [
            ("term", pa.string()),
            ("description", pa.string()),
            ("region", pa.int32()),
            ("box_xyxy", pa.list_(pa.float64())),
            ("value", pa.float64()),
            ("weight", pa.float64()),
            ("contribution", pa.float64()),
        ]
    )
    label = pa.struct(
        [
            ("category", pa.string()),
            ("group", pa.string()),
            ("presence", pa.float64()),
            ("box_xyxy", pa.list_(pa.float64())),
        ]
    )
    box = pa.struct(
        [
            ("id", pa.string()),
            ("xyxy", pa.list_(pa.float64())),
            ("category", pa.string()),
            ("confidence", pa.float64()),
        ]
    )
    known = pa.struct(
        [
            ("score", pa.float64()),
            ("threshold", pa.float64()),
            ("category", pa.string()),
            ("negative", pa.string()),
        ]
    )
    return pa.schema(
        [
            ("path", pa.string()),
            ("path_b64", pa.string()),
            ("status", pa.string()),
            ("rank", pa.int32()),
            ("category", pa.string()),
            ("group", pa.string()),
            ("score", pa.float64()),
            ("confidence", pa.float64()),
            ("calibrated", pa.bool_()),
            ("unknown", pa.bool_()),
            ("group_confidence", pa.float64()),
            ("labels", pa.list_(label)),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("evidence", pa.list_(evidence)),
            ("rerank_status", pa.string()),
            ("rerank", pa.string()),
            ("error_code", pa.string()),
            ("error_reason", pa.string()),
            ("label", pa.string()),
            ("label_confidence", pa.float64()),
            ("label_level", pa.int32()),
            ("label_path", pa.string()),
            ("source", pa.string()),
            ("label_rank", pa.string()),
            # What rows have beside: without these columns a folder of Parquet files alone would not give them again.
            ("known", known),
            ("ranks", pa.list_(pa.string())),
            ("groups", pa.map_(pa.string(), pa.float64())),
            *([("box", box)] if boxes else []),
        ]
    )
