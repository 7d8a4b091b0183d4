"""Kill `recognizer run` at random moments, resume it, and compare the bytes with an uninterrupted run.

usage: python tests/campaign/kill_run.py [--kills 30] [--seed 0]
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
    return [sys.executable, "-m", "recognizer", *run, "--precision", "fp32", "--output"]


def run_whole(command: list[str], output: Path) -> bytes:
    """Run to the end; returns the results."""
    done = subprocess.run([*command, str(output)], capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"the run failed: {done.stderr}")
    return output.read_bytes()


def run_killed(command: list[str], output: Path, rng: random.Random, images: int = IMAGES) -> int:
    """Start a run and kill it after a random number of rows and a moment more; returns the whole rows it left."""
    rows = rng.randint(0, images - BATCH)
    process = subprocess.Popen([*command, str(output)], stderr=subprocess.DEVNULL, env=_environment())
    while process.poll() is None and _rows(output) < rows:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    process.kill()
    process.wait()
    return _rows(output)


def _rows(output: Path) -> int:
    try:
        return output.read_bytes().count(b"\n")
    except FileNotFoundError:  # not made yet, or only tried out
        return 0


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
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


if __name__ == "__main__":
    main()
