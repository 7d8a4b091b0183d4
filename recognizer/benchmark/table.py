"""The table that a protocol returns: figures with their spread over seeds, as text and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory.durable import replacing
from memory.encoder_card import EncoderCard
from recognizer.console import table


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One figure.

    Attributes:
        data: the data set, such as "Food101".
        what: what was measured on it, such as "names" or "4 shots, GDA".
        metric: such as "top-1", "mean per class", "R@5" or "cACC".
        values: from 0 to 1, one for each seed; empty: not measured, and `note` says why.
        n: how many images, or other things, the figure is over.
        note: what a reader must know about this figure; may be empty.
    """

    data: str
    what: str
    metric: str
    values: Sequence[float]
    n: int
    note: str = ""

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None where nothing was measured."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class BenchmarkTable:
    """What a protocol measured with one encoder.

    Attributes:
        protocol: its name, such as "zero-shot".
        encoder: whose figures these are.
        rows: the figures.
        notes: lines below the table.
        options: of the protocol, for the JSON: whatever must be repeated to get the same figures.
    """

    protocol: str
    encoder: EncoderCard
    rows: Sequence[BenchmarkRow]
    notes: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the table and the notes as text."""
        headers = ["data", "what", "metric", "mean", "spread", "n", "encoder", "note"]
        rows = [
            (
                row.data,
                row.what,
                row.metric,
                _shown(row.mean),
                _shown(row.spread),
                str(row.n),
                self.encoder.name,
                row.note,
            )
            for row in self.rows
        ]
        yield table(headers, rows, widest=100)
        if self.notes:
            yield ""
        yield from self.notes

    def to_json(self) -> dict[str, Any]:
        """Return protocol, options, rows and notes as plain JSON values; each row names the encoder."""
        return {
            "protocol": self.protocol,
            "encoder": {
                "name": self.encoder.name,
                "fingerprint": self.encoder.fingerprint,
                "precision": self.encoder.precision,
            },
            "options": self.options,
            "rows": [
                {
                    "data": row.data,
                    "what": row.what,
                    "metric": row.metric,
                    "mean": row.mean,
                    "spread": row.spread,
                    "values": list(row.values),
                    "n": row.n,
                    "encoder": self.encoder.name,
                    "note": row.note,
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file, atomically."""
        with replacing(path) as draft:
            draft.write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
