"""What a finished run has reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recognizer.console import table


@dataclass(frozen=True, slots=True)
class Result:
    """See the module.

    Attributes:
        encoder: the file.
        steps: taken.
        metrics: `development` by epoch and `held_out`, each by set and way of scoring.
    """

    encoder: Path
    steps: int
    metrics: Mapping[str, Any]

    def table(self) -> str:
        """Lay the accuracies out as text."""
        measured = [(f"epoch {epoch}", sets) for epoch, sets in self.metrics.get("development", {}).items()]
        if "held_out" in self.metrics:
            measured.append(("held out", self.metrics["held_out"]))
        rows = [
            [when, name, way, f"{row['top1']:.4f}", f"{row['top5']:.4f}", f"{row['images']:.0f}"]
            for when, sets in measured
            for name, ways in sets.items()
            for way, row in ways.items()
        ]
        return table(["measured", "set", "scored by", "top-1", "top-5", "images"], rows)
