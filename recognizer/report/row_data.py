"""What the page is told of one row: a status for its filters, and the details that are shown of the chosen image.

Names, texts and paths are never keys of an object: the browser reads the details as a literal of JavaScript, in which
the key `__proto__` is no name like others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import Any, Final

from memory.lineage import SEPARATOR
from recognizer.results.row import ROLLED_UP, ErrorRow, ResultRow, Row

ANSWERED: Final = "ok"
"""Status of a reranking that came about."""
_SKIPPED = "skipped"


class Status(IntFlag):
    """What holds of a row; the page filters by these bits, whose names and order it has from here."""

    FAILED = 1
    UNKNOWN = 2
    BELOW = 4
    EMPTY = 8
    ROLLED_UP = 16
    RERANKED = 32
    REORDERED = 64
    RERANK_FAILED = 128
    RIGHT = 256
    WRONG = 512
    CHANGED = 1024
    ADDED = 2048
    CORRECTED = 4096
    SKIPPED = 8192
    NOT_IN_MEMORY = 16384
    """The true name is no category of the memory, so the row is neither right nor wrong."""
    STATUS_CHANGED = 32768
    """The other run has the same label, but it failed, or is unknown or too unsure, in one of the runs alone."""


def status_of(row: Row) -> Status:
    """Return what holds of a row by itself, without the truth or another run."""
    if isinstance(row, ErrorRow):
        return Status.FAILED
    rerank = row.rerank or {}
    outcome = str(rerank.get("status", _SKIPPED))
    order = list(rerank.get("order") or ())
    holds = {
        Status.UNKNOWN: row.unknown is True,
        Status.BELOW: row.status == "below",
        Status.EMPTY: row.status == "empty",
        Status.ROLLED_UP: row.source == ROLLED_UP,
        Status.RERANKED: outcome == ANSWERED,
        Status.REORDERED: outcome == ANSWERED and order != sorted(order),
        Status.RERANK_FAILED: outcome != ANSWERED and not outcome.startswith(_SKIPPED),
    }
    return Status(sum(bit.value for bit, is_so in holds.items() if is_so))  # `|` of flags takes ten times as long


def margin_of(row: Row) -> float | None:
    """Return the best confidence less the second best; 1 with one candidate, None without any."""
    confidences = sorted((candidate.confidence for candidate in row.candidates), reverse=True)
    if not confidences:
        return None
    return confidences[0] - confidences[1] if len(confidences) > 1 else 1.0


def group_of(row: Row) -> str:
    """Return the group that the label belongs to; empty where it has none."""
    if not isinstance(row, ResultRow) or row.label is None:
        return ""
    if row.source == ROLLED_UP:
        return SEPARATOR.join((row.label_path or "").split(SEPARATOR)[:-1])
    return row.candidates[0].group if row.candidates else ""


def details_of(row: Row) -> dict[str, Any]:
    """Return the details of a row as JSON values: lists, but for the keys below."""
    box = None if row.box is None else [row.box.id, _list(row.box.xyxy), row.box.category, row.box.confidence]
    if isinstance(row, ErrorRow):
        return {"box": box, "error": [row.code, row.reason]}
    known = row.known
    return {
        "box": box,
        "size": None if row.width is None else [row.width, row.height],
        "calibrated": row.calibrated,
        "path": row.label_path if row.source == ROLLED_UP else None,
        "known": None if known is None else [known.score, known.threshold, known.category, known.negative],
        "groups": [[path, confidence] for path, confidence in (row.group_confidence or {}).items()],
        "labels": [[each.category, each.group, each.presence, _list(each.box_xyxy)] for each in row.labels or ()],
        # A piece of evidence is a tuple, which JSON writes as a list: term, description, region, box, value, weight,
        # contribution.
        "candidates": [
            [each.category, each.group, each.score, each.confidence, list(each.evidence)] for each in row.candidates
        ],
        "rerank": None if row.rerank is None else _rerank(row.rerank),
    }


def _rerank(rerank: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rerank.get(name) for name in ("status", "model", "order", "probabilities", "reasons")}


def _list(box: Sequence[float] | None) -> list[float] | None:
    return None if box is None else list(box)
