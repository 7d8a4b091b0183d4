"""Kill a process that adds categories to a memory and removes them, and look at what it left.

usage: python tests/campaign/kill_edits.py [--kills 300] [--seed 0]

Each edit is logged when it is acknowledged. After a kill the memory must hold what the acknowledged edits made, or that
and the edit in flight; never anything else, and every check of `verify` must pass.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from memory import Category, Description, Memory  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402
from tests.memory.building import build  # noqa: E402
from tests.memory.fake_encoder import FakeEncoder  # noqa: E402

NAMES = 12


def edits_of(seed: int) -> list[tuple[str, str]]:
    """Return a sequence of edits: a name that is there is removed, another is added."""
    rng, there, edits = random.Random(seed), {"first"}, []
    for _ in range(400):
        name = f"thing {rng.randrange(NAMES)}"
        edits.append(("remove" if name in there else "add", name))
        there ^= {name}
    return edits


def names_after(edits: list[tuple[str, str]]) -> set[str]:
    """Return the names in a memory of one category after these edits."""
    names = {"first"}
    for edit, name in edits:
        names = names | {name} if edit == "add" else names - {name}
    return names


def make_edits(directory: Path, seed: int, start: int, log: Path) -> None:
    """Make the edits from number `start` on."""
    with log.open("a") as acknowledged:
        for edit, name in edits_of(seed)[start:]:
            memory = Memory.open(directory)
            if edit == "add":
                memory.add([Category(name, descriptions=(Description(f"of {name}"),))], encoder=FakeEncoder())
            else:
                memory.remove([name])
            acknowledged.write("x")
            acknowledged.flush()


def survive(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill and go on; returns what happened."""
    directory, rng = folder / "memory", random.Random(seed)
    counts = {"kills": kills, "edits acknowledged": 0, "edits in flight that were made": 0, "wrong memories": 0}
    counts["failed checks"] = 0
    build([Category("first")], directory, FakeEncoder())
    done, generation = 0, seed
    for kill in range(kills):
        if done > 300:
            generation, done = generation + 1, 0
            directory = folder / f"memory-{generation}"
            build([Category("first")], directory, FakeEncoder())
        log = folder / f"{kill}.log"
        log.touch()
        command = [sys.executable, __file__, "--child", str(directory), str(generation), str(done), str(log)]
        process = subprocess.Popen(command)
        while process.poll() is None and not log.stat().st_size:  # the start-up is not what is tested
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
        acknowledged = log.stat().st_size
        counts["edits acknowledged"] += acknowledged
        edits, found = edits_of(generation), {c.name for c in Memory.open(directory).vectors.categories}
        in_flight = found == names_after(edits[: done + acknowledged + 1])
        counts["edits in flight that were made"] += in_flight
        counts["wrong memories"] += not in_flight and found != names_after(edits[: done + acknowledged])
        counts["failed checks"] += sum(not finding.ok for finding in Memory.open(directory).verify())
        done += acknowledged + in_flight
    return counts


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        directory, seed, start, log = sys.argv[2:]
        make_edits(Path(directory), int(seed), int(start), Path(log))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = survive(Path(folder), arguments.kills, arguments.seed)
    for what, number in counts.items():
        print(f"{what:32} {number}")
    wrong = counts["wrong memories"] + counts["failed checks"]
    conclude(arguments.kills - min(wrong, arguments.kills), arguments.kills, "kills of edits")


if __name__ == "__main__":
    main()
