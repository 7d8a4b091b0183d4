"""Several processes add to one memory while others read it; nothing acknowledged may be lost or doubled.

usage: python tests/campaign/writers.py [--writers 4] [--readers 4] [--rounds 200]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from memory import Category, Memory, MemoryLocked, MemoryStoreError  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402
from tests.memory.building import build  # noqa: E402
from tests.memory.fake_encoder import FakeEncoder  # noqa: E402

COUNTED = ("additions acknowledged", "openings by readers")


def write(directory: Path, writer: int, rounds: int, log: Path) -> None:
    """Add one category a round, and log each that was acknowledged."""
    with log.open("a") as acknowledged:
        for number in range(rounds):
            name = f"writer {writer} category {number}"
            while True:
                try:
                    Memory.open(directory).add([Category(name)], encoder=FakeEncoder())
                    break
                except MemoryLocked:
                    time.sleep(0.01)
            acknowledged.write(name + "\n")
            acknowledged.flush()


def read(directory: Path, stop: Path, log: Path) -> None:
    """Open the memory again and again while it is written; log how many categories each opening found."""
    while not any(other.stat().st_size for other in log.parent.glob("write-*.log")):
        time.sleep(0.01)  # the writers' start-up is not what is tested
    with log.open("a") as opened:
        last = False
        while not last:
            last = stop.exists()
            memory = Memory.open(directory)
            try:
                opened.write(f"{len(memory.vectors.categories)}\n")
            except MemoryStoreError as error:
                # Two additions since it was opened; a reader is told so and opens the memory again.
                if "rewritten since" not in str(error):
                    raise
            opened.flush()


def run(folder: Path, *, writers: int, readers: int, rounds: int) -> dict[str, int]:
    """Start all processes and count what went wrong."""
    directory, stop = folder / "memory", folder / "stop"
    build([Category("first")], directory, FakeEncoder())

    def start(role: str, number: int) -> subprocess.Popen[bytes]:
        arguments = [role, str(directory), str(number), str(rounds), str(folder / f"{role}-{number}.log"), str(stop)]
        return subprocess.Popen([sys.executable, __file__, "--child", *arguments])

    reading = [start("read", number) for number in range(readers)]
    writing = [start("write", number) for number in range(writers)]
    failed = sum(process.wait() != 0 for process in writing)
    stop.touch()
    failed += sum(process.wait() != 0 for process in reading)
    acknowledged = [line for log in folder.glob("write-*.log") for line in log.read_text().splitlines()]
    found = Counter(category.name for category in Memory.open(directory).vectors.categories)
    sizes = [[int(line) for line in log.read_text().split()] for log in folder.glob("read-*.log")]
    return {
        "processes that failed": failed,
        "additions acknowledged": len(acknowledged),
        "lost": sum(name not in found for name in acknowledged),
        "doubled": sum(count > 1 for count in found.values()),
        "openings by readers": sum(map(len, sizes)),
        "readers that saw the memory shrink": sum(counts != sorted(counts) for counts in sizes),
        "files in quarantine": len(list((directory / "_quarantine").glob("*"))),
        "failed checks": sum(not finding.ok for finding in Memory.open(directory).verify()),
    }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        role, directory, number, rounds, log, stop = sys.argv[2:]
        if role == "write":
            write(Path(directory), int(number), int(rounds), Path(log))
        else:
            read(Path(directory), Path(stop), Path(log))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), writers=arguments.writers, readers=arguments.readers, rounds=arguments.rounds)
    for what, number in counts.items():
        print(f"{what:36} {number}")
    wrong = sum(number for what, number in counts.items() if what not in COUNTED)
    total = counts["additions acknowledged"] + counts["openings by readers"]
    conclude(total - min(wrong, total), total, "additions and openings")


if __name__ == "__main__":
    main()
