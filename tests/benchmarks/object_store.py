"""A memory on an object store beside the same memory in a directory: opening, building, adding; prints Markdown.

The store is moto's server on the loopback, written in Python, so times of fetching and uploading are those of that
server. Openings are interleaved, each in a fresh process: time from the call of `Memory.open` until all vectors are
read.

    python tests/benchmarks/object_store.py [--sizes 1000,10000] [--repeats 7]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from memory import Category, Description, Memory
from tests.memory.fake_encoder import FakeEncoder
from tests.objects_server import environment, running_server

OPEN = """
import sys, time
from memory import Memory
import memory.memory, lancedb, numpy
start = time.perf_counter()
memory = Memory.open(sys.argv[1])
opened = time.perf_counter()
memory.vectors
print(opened - start, time.perf_counter() - start)
"""


class QuickEncoder(FakeEncoder):
    """Unit vectors of 512 values, of which each text decides a few; no time goes into them."""

    def __init__(self):
        super().__init__(dim=512)
        self._rows = np.random.default_rng(0).standard_normal((4096, 512)).astype(np.float32)

    def encode_texts(self, texts):
        picked = self._rows[[hash(text) % 4096 for text in texts]]
        return picked / np.linalg.norm(picked, axis=1, keepdims=True)


def open_once(location):
    """Seconds of opening, and of opening and reading all vectors, in a fresh process."""
    printed = subprocess.run([sys.executable, "-c", OPEN, str(location)], capture_output=True, text=True, check=True)
    return [float(value) for value in printed.stdout.split()]


def timed(operation):
    start = time.perf_counter()
    operation()
    return time.perf_counter() - start


def measure(server, folder, size, repeats):
    encoder = QuickEncoder()
    templates = ("a photo of a {}.", "{c}")
    categories = [
        Category(f"category {i}", descriptions=tuple(Description(f"part {i} {k}") for k in range(3)))
        for i in range(size)
    ]
    address, directory = server.new_address(), folder / f"memory-{size}"
    options = {"encoder": encoder, "templates": templates}
    rows = [["build", *(timed(lambda at=at: Memory.build(categories, at, **options)) for at in (directory, address))]]
    for name, number in (("add one category", 0), ("add another", 1)):
        times = [
            timed(lambda at=at, number=number: Memory.open(at).add([Category(f"new {number}")], encoder=encoder))
            for at in (directory, address)
        ]
        rows.append([name, *times])
    cold, warm, local = [], [], []
    for _ in range(repeats):
        shutil.rmtree(os.environ["XDG_CACHE_HOME"])
        cold.append(open_once(address))
        warm.append(open_once(address))
        local.append(open_once(directory))
    for name, column in (("open", 0), ("open and read all vectors", 1)):
        here, mirror, empty = (statistics.median(one[column] for one in runs) for runs in (local, warm, cold))
        rows += [[f"{name}, warm mirror", here, mirror], [f"{name}, empty cache", here, empty]]
    megabytes = sum(path.stat().st_size for path in directory.rglob("*.lance/data/*")) / 2**20
    for name, here, there in rows:
        print(f"| {size} × 3, {megabytes:.0f} MiB | {name} | {here:.3f} | {there:.3f} | {there / here:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server(Path(name)) as server:
        os.environ |= environment(server.url, Path(name) / "cache")
        print("| categories × descriptions | operation | directory, s | address, s | ratio |\n|---|---|---|---|---|")
        for size in arguments.sizes.split(","):
            measure(server, Path(name), int(size), arguments.repeats)


if __name__ == "__main__":
    main()
