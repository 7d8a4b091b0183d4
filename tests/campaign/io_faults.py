"""Fail the calls of writes that change the disk: an error in a sentence, nothing lost, and the write can be done again.

usage: python -m tests.campaign.io_faults [--faults 600] [--seed 0]

A call fails once, or it and all after it. Besides, no file may grow above a size; and where a small file system can be
mounted, it is full. There, no file of the failed write may stay.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.campaign.disk import Outcome, Point, disturbed, in_child
from tests.campaign.kill_points import points
from tests.campaign.trials import Tally, Trial, sample, scratch
from tests.campaign.writes import WRITES

ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES")
SIZES = (0, 100, 500, 1000, 2000, 4000, 8000)
"""Bytes that a file may have; those of a write of the campaign have up to 10,000."""
FREE_KIB = (0, 4, 8, 16, 24, 32, 48, 64)
"""Free space of a full disk; a write of the campaign takes up to 100 KiB."""
DISK_KIB = 1024


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a file system of `DISK_KIB`; says whether that is possible."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def on_full_disk(trial: Trial, disk: Path, free_kib: int) -> tuple[Outcome, list[str]]:
    """Do the write on a disk with little free space; returns what came of it and what must not be."""
    with trial.copy(disk) as folder:
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))
        os.truncate(filler, max(0, filler.stat().st_size - free_kib * 1024))
        outcome = in_child(lambda: trial.write.act(folder))
        left = trial.leftovers(folder) if outcome.how == "refused" else []
        filler.unlink()
        return outcome, [*([f"LEFT ON A FULL DISK: {left}"] if left else []), *trial.faults(folder, outcome)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writes", nargs="+", choices=list(WRITES), default=list(WRITES))
    arguments = parser.parse_args()
    tally = Tally()
    with scratch() as base, small_disk(Path(base) / "disk") as mounted:
        trials = [Trial.prepare(name, Path(base)) for name in arguments.writes]
        cases: list[tuple[Trial, Point, str, bool]] = [
            (trial, point, error, for_ever)
            for trial in trials
            for point in points(trial)
            for error in ERRORS
            for for_ever in (False, True)
        ]
        cases += [(trial, Point("size", size), "EFBIG", True) for trial in trials for size in SIZES]
        cases += [(trial, Point("free", kib), "ENOSPC", True) for trial in trials for kib in FREE_KIB if mounted]
        for trial, point, error, for_ever in sample(cases, arguments.faults, random.Random(arguments.seed)):
            case = f"{trial.name}, {point}, {error}{' for ever' if for_ever else ''}"
            if point.call == "free":
                outcome, faults = on_full_disk(trial, Path(base) / "disk", point.number)
                tally.note(case, outcome.how, faults)
                continue
            with trial.copy() as folder:
                outcome = disturbed(partial(trial.write.act, folder), folder, point, error, for_ever=for_ever)
                tally.note(case, outcome.how, trial.faults(folder, outcome))
    tally.end("faults", arguments.seed)


if __name__ == "__main__":
    main()
