"""What of the data could not be used, counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class BadSample(Exception):
    """A sample that cannot be used.

    Attributes:
        reason: a short constant text, the same for every sample with the same fault.
    """

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        self.reason = reason
        super().__init__(reason)


@dataclass(slots=True)
class Rejects:
    """Counts of what was left out.

    Attributes:
        seen: samples looked at, good and bad.
        samples: bad samples by reason.
        parts: by reason, what was left out of samples that are used all the same (a region, one caption of several),
            and shards that end early.
    """

    seen: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> int:
        """Count the bad samples."""
        return self.samples.total()

    def add(self, other: Rejects) -> None:
        """Add the counts of another."""
        self.seen += other.seen
        self.samples.update(other.samples)
        self.parts.update(other.parts)

    def report(self) -> str:
        """Say in one line how many samples were bad and why; reasons by falling count."""
        text = f"{self.bad} of {self.seen} samples could not be used" + _listed(self.samples)
        return text + (f"; left out of the others{_listed(self.parts)}" if self.parts else "")

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return {"seen": self.seen, "samples": dict(self.samples), "parts": dict(self.parts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rejects:
        """Undo `to_json`."""
        return cls(value["seen"], Counter(value["samples"]), Counter(value["parts"]))


def _listed(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ": " + ", ".join(f"{reason} {count}" for reason, count in ordered) if counts else ""
