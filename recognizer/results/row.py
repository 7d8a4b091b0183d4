"""One row of the results: what was recognised in one image, or why the image failed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

# Rounding, so that equal results give equal bytes. `encode_row` says what each number must still allow.
_DECIMALS = 8
_BOX_DECIMALS = 2
_CONFIDENCE_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """One summand of a score.

    Attributes:
        term: name of the term of the score, e.g. ``region_description``.
        description: the text that was compared; empty if the term has none.
        region: index of the region; None if the whole image was compared.
        box_xyxy: (x_min, y_min, x_max, y_max) in pixels of the displayed image; None without a region.
        value: the similarity.
        weight: its factor in the score.
        contribution: weight times value, the summand itself.
    """

    term: str
    description: str
    region: int | None
    box_xyxy: Sequence[float] | None
    value: float
    weight: float
    contribution: float

    def to_dict(self) -> dict[str, Any]:
        """Return the piece of evidence as plain JSON values, numbers rounded."""
        return {
            "term": self.term,
            "description": self.description,
            "region": None if self.region is None else int(self.region),
            "box_xyxy": None if self.box_xyxy is None else [_decimals(x, _BOX_DECIMALS) for x in self.box_xyxy],
            "value": _decimals(self.value),
            "weight": _decimals(self.weight),
            "contribution": _decimals(self.contribution),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """One category in the ranking of an image.

    Attributes:
        category: its name.
        group: its group; left out of the row if empty.
        score: the sum of the contributions of `evidence`.
        confidence: probability over all categories of the memory, in [0, 1].
        evidence: the summands of the score.
    """

    category: str
    score: float
    confidence: float
    evidence: Sequence[EvidenceRow] = ()
    group: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as plain JSON values, numbers rounded."""
        return {
            "category": self.category,
            **({"group": self.group} if self.group else {}),
            "score": _decimals(self.score),
            "confidence": _digits(self.confidence, _CONFIDENCE_DIGITS),
            "evidence": [piece.to_dict() for piece in self.evidence],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """What was recognised in one image.

    Attributes:
        path: key of the image.
        path_b64: the bytes of the key in base64 if `path` is escaped, else None.
        label: name of the first category; None in a memory without categories.
        confidence: that of the label, in [0, 1].
        calibrated: whether the confidence was fitted on labelled images.
        unknown: whether the image seems to show none of the categories; None before calibration.
        candidates: the ranking, best first.
        rerank: outcome of the reranking (status, model, order); None without reranking.
    """

    path: str
    path_b64: str | None = None
    label: str | None
    confidence: float | None
    calibrated: bool
    unknown: bool | None
    candidates: Sequence[CandidateRow]
    rerank: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values, in the order in which they are written."""
        return {
            **_head(self.path, self.path_b64, "ok"),
            "label": self.label,
            "confidence": None if self.confidence is None else _digits(self.confidence, _CONFIDENCE_DIGITS),
            "calibrated": bool(self.calibrated),
            "unknown": None if self.unknown is None else bool(self.unknown),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "rerank": None if self.rerank is None else dict(self.rerank),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """Why an image could not be recognised.

    Attributes:
        path: key of the image.
        path_b64: the bytes of the key in base64 if `path` is escaped, else None.
        code: a stable code such as ``E_TRUNCATED``.
        reason: one printable line.
        label: None, so that code that reads the labels of all rows need not ask which are errors.
        confidence: None, likewise.
        candidates: empty, likewise.
    """

    path: str
    path_b64: str | None = None
    code: str
    reason: str
    label: ClassVar[None] = None
    confidence: ClassVar[None] = None
    candidates: ClassVar[Sequence[CandidateRow]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values, in the order in which they are written."""
        return {**_head(self.path, self.path_b64, "error"), "error": {"code": self.code, "reason": self.reason}}


Row = ResultRow | ErrorRow


def encode_row(row: Row) -> bytes:
    """Encode a row as one line of JSON.

    Equal rows give equal bytes. Scores, values, weights and contributions have 8 decimals, so that the contributions
    of up to 1,000 pieces of evidence still add up to the score within 1e-5; confidences have 6 significant digits,
    boxes 2 decimals.

    Args:
        row: the row.

    Returns:
        UTF-8 with one newline, at the end. Lone surrogates, which UTF-8 cannot encode, become ``?``.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def parse_row(content: Mapping[str, Any]) -> Row:
    """Make a row from its JSON object; the inverse of `to_dict`.

    Raises:
        KeyError: a field is missing.
        TypeError: the object is not a row.
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


def _head(path: str, path_b64: str | None, status: str) -> dict[str, Any]:
    return {"path": path, **({"path_b64": path_b64} if path_b64 else {}), "status": status}


def _decimals(number: float, places: int = _DECIMALS) -> float:
    return _finite(round(float(number), places))


def _digits(number: float, count: int) -> float:
    return _finite(float(f"{float(number):.{count}g}"))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"a result row contains the number {number}; scores and boxes must be finite")
    return number + 0.0  # minus zero becomes zero
