"""Kill `recognizer run` at random moments, resume it, and compare the bytes with an uninterrupted run.

usage: python tests/campaign/kill_run.py [--kills 30] [--folders 10] [--seed 0]

First each run is killed once. Then a folder grows and shrinks, and its run is killed after each change but the last; at
the end its results must be those of a fresh run over the folder.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import Memory, read_labels
from recognizer import Encoder
from recognizer.demo import DATA

IMAGES, BATCH = 48, 2


def prepare(folder: Path, images: int = IMAGES) -> list[str]:
    """Make a memory and a folder of images; returns the command of a run over them, without its output."""
    encoder = Encoder.load("starter", precision="fp32")
    Memory.build(read_labels(DATA / "labels.json"), folder / "memory", encoder=encoder, templates=["{}"])
    (folder / "images").mkdir()
    photos = sorted((DATA / "photos").glob("*.jpg"))
    for number in range(images):
        shutil.copy(photos[number % len(photos)], folder / "images" / f"{number:03}.jpg")
    (folder / "images" / "broken.jpg").write_bytes(b"no picture")
    run = ["run", str(folder / "images"), "--memory", str(folder / "memory"), "--batch-size", str(BATCH)]
    return [sys.executable, "-m", "recognizer", *run, "--device", "cpu", "--precision", "fp32", "--output"]


def run_whole(command: list[str], output: Path) -> bytes:
    """Run to the end; returns the results."""
    done = subprocess.run([*command, str(output)], capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"the run failed: {done.stderr}")
    return output.read_bytes()


def run_killed(command: list[str], output: Path, rng: random.Random, images: int = IMAGES) -> int:
    """Start a run and kill it after a random number of new rows and a moment more; returns the whole rows it left."""
    rows = _rows(output) + rng.randint(0, images - BATCH)
    process = subprocess.Popen([*command, str(output)], stderr=subprocess.DEVNULL, env=_environment())
    while process.poll() is None and _rows(output) < rows:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    process.kill()
    process.wait()
    return _rows(output)


def change(images: Path, rng: random.Random) -> None:
    """Add, remove, replace and touch some images of a folder."""
    photos = sorted((DATA / "photos").glob("*.jpg"))
    for _ in range(rng.randint(1, 8)):
        image = images / f"{rng.randrange(1000):03}.jpg"
        present = sorted(images.iterdir())
        match rng.choice(["add", "add", "remove", "replace", "break", "touch"]):
            case "add":
                shutil.copy(rng.choice(photos), image)
            case "remove":
                rng.choice(present).unlink()
            case "replace":
                shutil.copy(rng.choice(photos), rng.choice(present))
            case "break":
                rng.choice(present).write_bytes(rng.randbytes(99))
            case "touch":
                os.utime(rng.choice(present), (1, 1))


def run_growing(folder: Path, command: list[str], suffix: str, rng: random.Random) -> bool:
    """Kill a run over a folder that grows and shrinks, and resume it; tells whether it ends like a fresh run."""
    output = folder / f"r{suffix}"
    for _ in range(rng.randint(1, 4)):
        run_killed(command, output, rng, images=12)
        change(folder / "images", rng)
    return run_whole(command, output) == run_whole(command, folder / "fresh" / output.name)


def _rows(output: Path) -> int:
    if output.suffix != ".jsonl":
        output = output.with_name(output.name + ".journal.jsonl")
    try:
        return output.read_bytes().count(b"\n")
    except FileNotFoundError:  # not made yet, or only tried out
        return 0


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--folders", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        command = prepare(Path(folder))
        whole = run_whole(command, Path(folder) / "whole" / "r.jsonl")
        same, left = 0, []
        for kill in range(arguments.kills):
            output = Path(folder) / f"killed{kill}" / "r.jsonl"
            left.append(run_killed(command, output, rng))
            same += run_whole(command, output) == whole
    print(f"{same} of {arguments.kills} killed and resumed runs gave the bytes of the uninterrupted one")
    print(f"rows on disk at the kill, of {IMAGES + 1}: {sorted(left)}; seed {arguments.seed}")
    same = 0
    for _ in range(arguments.folders):
        with tempfile.TemporaryDirectory() as folder:
            command = prepare(Path(folder), images=10)
            same += run_growing(Path(folder), command, rng.choice([".jsonl", ".csv", ".parquet"]), rng)
    print(f"{same} of {arguments.folders} folders that grew and shrank between kills had the bytes of a fresh run")


if __name__ == "__main__":
    main()
