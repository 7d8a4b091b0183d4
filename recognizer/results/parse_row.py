"""A row of the results read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recognizer.results.row import CandidateRow, ErrorRow, EvidenceRow, ResultRow, Row


def parse_row(content: Mapping[str, Any]) -> Row:
    """Turn the JSON object of a row into the row; `encode_row` gives the same object again.

    Raises:
        KeyError, TypeError: it is no row.
    """
    head = {"path": content["path"], "path_b64": content.get("path_b64")}
    if content["status"] == "error":
        return ErrorRow(**head, code=content["error"]["code"], reason=content["error"]["reason"])
    return ResultRow(
        **head,
        label=content["label"],
        confidence=content["confidence"],
        calibrated=content["calibrated"],
        unknown=content["unknown"],
        candidates=[_candidate(candidate) for candidate in content["candidates"]],
        rerank=content.get("rerank"),
    )


def _candidate(content: Mapping[str, Any]) -> CandidateRow:
    return CandidateRow(
        category=content["category"],
        group=content.get("group", ""),
        score=content["score"],
        confidence=content["confidence"],
        evidence=[EvidenceRow(**piece) for piece in content["evidence"]],
    )
