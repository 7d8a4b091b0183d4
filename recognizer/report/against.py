"""Another run of the same images, beside which the rows of a report are shown: what changed, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from recognizer.report.columns import NO_LABEL, Columns
from recognizer.report.row_data import Status, details_of, group_of, status_of
from recognizer.report.scripts import script_json
from recognizer.results.reading import open_stored
from recognizer.results.row import CandidateRow, Row
from recognizer.results.run_info import RunInfo

_OUTCOME = Status.FAILED | Status.BELOW | Status.EMPTY | Status.UNKNOWN


class OtherRow(NamedTuple):
    """What is remembered of a row of the other run.

    Attributes:
        label: its label.
        group: that of the label.
        outcome: whether it failed, is unknown or has no label.
        details: what the page shows of it, as JSON; a text, because a hundred thousand of them stay in memory.
    """

    label: str | None
    group: str
    outcome: Status
    details: str


class ComparedCounts(NamedTuple):
    """How the rows compare with those of another run.

    Attributes:
        both: rows that both runs have.
        changed: those of them with another label.
        status_changed: those with the same label, but failed, unknown or too unsure in one of the runs alone.
        only_here: rows that the other run does not have.
        only_there: rows that only the other run has.
    """

    both: int
    changed: int
    status_changed: int
    only_here: int
    only_there: int


class OtherRun:
    """The rows of another run, by image and box.

    Attributes:
        name: of its file.
        info: what made it; None where nothing says it.
        only_there: its rows that this run does not have, once all rows were compared.
    """

    def __init__(self, path: Path) -> None:
        """Read them.

        Raises:
            ResultsUnreadable: they cannot be read.
        """
        stored = open_stored(path)
        self.name = path.name
        self.info = stored.info
        self._rows: dict[str, OtherRow] = {}
        for row in stored.rows():
            with suppress(TypeError, ValueError, AttributeError):  # as a damaged line: this run has no such row
                self._rows[row.key] = _remember(row)
        self.only_there = len(self._rows)

    def compare(self, row: Row, number: int, columns: Columns) -> str | None:
        """Note in the columns how a row differs, and return what its details show of the other run, as JSON."""
        other = self._rows.get(row.key)
        if other is None:
            columns.other.append(NO_LABEL)
            columns.mark(number, Status.ADDED)
            return None
        self.only_there -= 1
        columns.other.append(columns.names.number(other.label, other.group))
        outcome = Status(columns.status[number]) & _OUTCOME
        if not _is_same(other, row.label, group_of(row)):
            columns.mark(number, Status.CHANGED)
        elif outcome != other.outcome:
            columns.mark(number, Status.STATUS_CHANGED)
        return other.details

    def counts(self, columns: Columns) -> ComparedCounts:
        """Count, once all rows were compared."""
        changed, status_changed, added = (
            sum(bool(status & wanted) for status in columns.status)
            for wanted in (Status.CHANGED, Status.STATUS_CHANGED, Status.ADDED)
        )
        return ComparedCounts(len(self._rows) - self.only_there, changed, status_changed, added, self.only_there)


def _is_same(other: OtherRow, label: str | None, group: str) -> bool:
    """Tell whether two runs have the same label; one of them may be by a memory without groups."""
    return other.label == label and (other.group == group or not other.group or not group)


def _remember(row: Row) -> OtherRow:
    details = details_of(row)
    shown = {
        "label": row.label,
        "confidence": row.confidence,
        "error": details.get("error"),
        "rerank": details.get("rerank"),
        "candidates": [
            [each.category, each.group, each.score, each.confidence, _sums(each)] for each in row.candidates
        ],
    }
    return OtherRow(row.label, group_of(row), status_of(row) & _OUTCOME, script_json(shown))


def _sums(candidate: CandidateRow) -> list[list[Any]]:
    """Return what each term of the score contributed to it."""
    sums: dict[str, float] = {}
    for piece in candidate.evidence:
        sums[piece.term] = sums.get(piece.term, 0.0) + piece.contribution
    return [[term, round(value, 6)] for term, value in sums.items()]


def differing_settings(one: RunInfo | None, other: RunInfo | None) -> list[list[str]]:
    """Return the settings in which two runs differ: name, value here, value there."""
    if one is None or other is None:
        return []
    here, there = _facts(one), _facts(other)
    return [
        [name, _shown(here.get(name)), _shown(there.get(name))]
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]


def _facts(info: RunInfo) -> Mapping[str, object]:
    facts = {"model": info.model.get("name"), "memory.categories": info.memory.get("categories")}
    # Not where the images were: a report may be sent to others.
    return facts | {name: value for name, value in info.identity().items() if not name.endswith("input_root")}


def _shown(value: object) -> str:
    return "not set" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
