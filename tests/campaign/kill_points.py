"""Kill writes at every call that changes the disk: the old state or the new one, and the write can be done again.

usage: python -m tests.campaign.kill_points [--points 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path

from tests.campaign.disk import KILL, Point, can_trace, disturbed, points_of
from tests.campaign.trials import Tally, Trial, sample, scratch
from tests.campaign.writes import WRITES


def points(trial: Trial) -> list[Point]:
    """Return every point where a write can be killed."""
    found = []
    for traced in (False, True) if can_trace() else (False,):
        with trial.copy() as folder:
            found += points_of(partial(trial.write.act, folder), folder, traced=traced)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writes", nargs="+", choices=list(WRITES), default=list(WRITES))
    arguments = parser.parse_args()
    tally = Tally()
    with scratch() as base:
        trials = [Trial.prepare(name, Path(base)) for name in arguments.writes]
        cases = [(trial, point) for trial in trials for point in points(trial)]
        for trial, point in sample(cases, arguments.points, random.Random(arguments.seed)):
            with trial.copy() as folder:
                outcome = disturbed(partial(trial.write.act, folder), folder, point, KILL)
                tally.note(f"{trial.name}, {point}", outcome.how, trial.faults(folder, outcome))
    tally.end("kills", arguments.seed)


if __name__ == "__main__":
    main()
