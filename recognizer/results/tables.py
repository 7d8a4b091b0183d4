"""Rows of the results as flat records, one an image and rank."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")

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
)


def read_rows(journal: Path) -> Iterator[dict[str, Any]]:
    """Read a journal row by row."""
    with open(journal, "rb") as stream:
        for line in stream:
            yield json.loads(line)


def flatten_row(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split one row into a record for each candidate.

    Args:
        row: a row as written by :func:`recognizer.results.row.encode_row`.

    Returns:
        One record a candidate, `rank` from 1, each with its `evidence` as it was; one record without a candidate for
        an error or an empty ranking.
    """
    error = row.get("error") or {}
    rerank = row.get("rerank")
    shared = {
        "path": row["path"],
        "path_b64": row.get("path_b64"),
        "status": row["status"],
        "calibrated": row.get("calibrated"),
        "unknown": row.get("unknown"),
        "rerank_status": None if rerank is None else rerank.get("status"),
        "error_code": error.get("code"),
        "error_reason": error.get("reason"),
    }
    candidates = row.get("candidates") or []
    records = [
        {
            **shared,
            "rank": rank,
            "category": candidate["category"],
            "group": candidate.get("group", ""),
            "score": candidate["score"],
            "confidence": candidate["confidence"],
            "evidence": candidate["evidence"],
        }
        for rank, candidate in enumerate(candidates, start=1)
    ]
    return records or [{**shared, "rank": None, "evidence": []}]


def csv_record(record: Mapping[str, Any]) -> list[object]:
    """Make the cells of one line of CSV out of a record.

    Of the evidence stand there the piece that contributes most, and the piece with a box that contributes most.

    Returns:
        Cells in the order of :data:`CSV_COLUMNS`; texts neutralised, numbers as numbers, None as an empty cell.
    """
    evidence: Sequence[Mapping[str, Any]] = record["evidence"]
    best = max(evidence, key=_contribution, default={})
    boxed = max((piece for piece in evidence if piece["box_xyxy"] is not None), key=_contribution, default={})
    cells = {
        **record,
        "term": best.get("term"),
        "description": best.get("description"),
        "contribution": best.get("contribution"),
        "region": boxed.get("region"),
        "region_description": boxed.get("description"),
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), boxed.get("box_xyxy", ()), strict=False)),
    }
    return [_cell(cells.get(column)) for column in CSV_COLUMNS]


def neutralise(text: str) -> str:
    """Put ``'`` before a text that a spreadsheet would take for a formula."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return neutralise(value) if isinstance(value, str) else value


def _contribution(piece: Mapping[str, Any]) -> float:
    return float(piece["contribution"])
