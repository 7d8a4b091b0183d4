"""What a benchmark hands to the table of comparisons: ways that took turns, and their figures as a file of JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

RATES = ("images/s", "texts/s")
"""Units of which more is better; the others are times."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table.

    Attributes:
        what: the work, with its size.
        unit: of the three figures: s, ms or one of `RATES`.
        ours: our figure.
        peer: that of what people use today, on the same work in the same run; None: there is none.
        bound: what cannot be avoided: the bare model, the bare product of matrices; None: there is none.
        peer_is: in words.
        bound_is: in words.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    bound: float | None = None
    peer_is: str = ""
    bound_is: str = ""

    def against(self, other: float | None) -> float | None:
        """How many times as fast as another figure ours is."""
        if other is None:
            return None
        return self.ours / other if self.unit in RATES else other / self.ours


class Times(NamedTuple):
    """Medians in seconds: by the clock, and of this process's processors."""

    wall: float
    processor: float


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    wait: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Time several ways of one work in turns, as other programs share the machine.

    Args:
        ways: by name.
        rounds: that count.
        warm_up: rounds before them.
        wait: until a device has done its work.
    """
    taken: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(warm_up + rounds):
        for name, way in ways.items():
            wait()
            wall, processor = time.perf_counter(), time.process_time()
            way()
            wait()
            taken[name].append(Times(time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: Times(*(statistics.median(column) for column in zip(*times[warm_up:], strict=True)))
        for name, times in taken.items()
    }


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE`."""
    parser.add_argument("--json", type=Path, help="write the figures for `table.py` there")


def hand_over(file: Path | None, comparisons: Sequence[Comparison]) -> None:
    """Write comparisons where `--json` said so."""
    if file is not None:
        file.write_text(json.dumps([asdict(one) for one in comparisons], indent=1))


def handed_over(file: Path) -> list[Comparison]:
    """Read what `hand_over` wrote."""
    return [Comparison(**one) for one in json.loads(file.read_text())]
