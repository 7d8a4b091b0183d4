"""Kill `annotate` at calls of its models and give it again: the same bytes, and no call too many.

usage: python -m tests.campaign.kill_annotate [--kills 20] [--seed 0]

Each trial annotates new pictures, is killed several times before or after a call of the MLLM or the detector (what was
answered and not yet stored is lost with the batch), and is then run to its end. Compared are the output with that of an
uninterrupted run, and the batches that the models were asked with those of it plus one per kill.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recognizer.console import Advance
from tests.campaign.conclusion import conclude
from tests.campaign.disk import in_child
from tests.training.annotation.scripted import NEVER, Death, Log, LoggedDetector, LoggedMllm, settings, write_pictures
from training.annotation.annotate import annotate
from training.annotation.inputs import read_images

IMAGES = 24
KILLS_EACH = 5  # of one trial


@contextmanager
def silent(total: int, unit: str, description: str) -> Iterator[Advance]:
    """Show no progress."""
    yield lambda done, /, failed=0: None


def run(folder: Path, pictures: Path, death: Death = NEVER) -> str:
    """Annotate in a process of its own; returns how that ended."""
    log = Log(folder / "log")

    def work() -> None:
        annotate(
            read_images([str(pictures)]),
            folder / "out.jsonl",
            settings(mllm_batch=4),
            bar=silent,
            mllm=LoggedMllm(log, death),
            detector=LoggedDetector(log, death),
        )

    return in_child(work).how


def survive(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill and go on; returns what happened."""
    rng = random.Random(seed)
    pictures, whole = write_pictures(folder / "pictures", IMAGES), folder / "whole"
    whole.mkdir()
    run(whole, pictures)
    expected, batches = (whole / "out.jsonl").read_bytes(), Log(whole / "log").batches()
    counts = {"kills": kills, "killed at work": 0, "other outputs": 0, "too many calls": 0}
    for start in range(0, kills, KILLS_EACH):
        trial = folder / f"trial-{start}"
        trial.mkdir()
        killed = 0
        for left in range(min(KILLS_EACH, kills - start), 0, -1):
            calls = len(batches) - len(Log(trial / "log").batches())  # so many are left at least
            death = Death(rng.randrange(max(1, calls // left)), after=rng.random() < 0.5)
            killed += run(trial, pictures, death) == "killed"
        ended = run(trial, pictures)
        counts["killed at work"] += killed
        counts["other outputs"] += ended != "returned" or (trial / "out.jsonl").read_bytes() != expected
        counts["too many calls"] += len(Log(trial / "log").batches()) > len(batches) + killed
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = survive(Path(folder), arguments.kills, arguments.seed)
    for what, number in counts.items():
        print(f"{what:16} {number}")
    bad = KILLS_EACH * (counts["other outputs"] + counts["too many calls"])
    conclude(counts["killed at work"] - min(bad, counts["killed at work"]), arguments.kills, "kills of annotate")


if __name__ == "__main__":
    main()
