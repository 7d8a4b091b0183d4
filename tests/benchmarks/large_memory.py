"""What a large memory costs: to build, to build again, to edit and to open; seconds, memory and disk.

`build` with nothing to do is that of the library, which compares every category; from the same files, that of the
command, which compares hashes of files.

usage: python tests/benchmarks/large_memory.py 10000 100000 [--descriptions 5] [--dim 1384] [--folder DIR]
       python tests/benchmarks/large_memory.py 10000 --json FILE

With `--json`, edits take turns with those of a plain script: all texts in a file of JSON, their vectors in float16 in a
file of NumPy, one for each name and for each name with a description (ours keeps the description alone, too). The
script loads both, adds, and saves both; it does not notice that nothing has changed, and encodes all texts again. The
bound of an edit is to append the new vectors to a file, that of a build with nothing to do to hash the label file.

Vectors come from hashes of the texts, so no encoder's time is in the figures. Each step runs in a process of its own,
whose start (Python and imports) is left out. `cpu` is its processor time, which a busy machine changes less.
`anonymous` and `mapped` are the memory of the process at the end of its step, MiB: its own pages, and those of files,
which the system can drop. `peak anonymous` is the highest of the former, read every 50 ms; `peak` that of their sum.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import lancedb  # noqa: E402, F401  start-up
import numpy as np  # noqa: E402

from memory import Memory, read_labels  # noqa: E402
from memory.durable import file_sha256  # noqa: E402
from recognizer.agreement import make_retriever  # noqa: E402
from recognizer.console import table  # noqa: E402
from recognizer.encoder import ImageFeatures  # noqa: E402
from recognizer.evidence import explain  # noqa: E402, F401  start-up
from recognizer.score import Scorer  # noqa: E402
from recognizer.settings import ScoreSettings  # noqa: E402
from recognizer.unchanged import input_hash, remember_build, unchanged_memory  # noqa: E402
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over  # noqa: E402
from tests.memory.fake_encoder import HashEncoder  # noqa: E402

TEMPLATES = ("a photo of a {}.",)
REGIONS = 5
ROUNDS = 3
COLUMNS = ("step", "seconds", "cpu", "anonymous", "mapped", "peak anonymous", "peak", "disk")


def write_labels(path: Path, numbers: range, descriptions: int) -> None:
    """Write a label file of rows `name,description`, five of 20,000 colours and shapes for each name."""
    with path.open("w", encoding="utf-8") as file:
        file.write("name,description\n")
        for number in numbers:
            for place in range(descriptions):
                file.write(f"thing number {number},part {(number * 7919 + place * 104729) % 20_000} of {number}\n")


def build(folder: Path, encoder: HashEncoder) -> None:
    inputs = input_hash([folder / "labels.csv"], {})
    labels = read_labels(folder / "labels.csv")
    remember_build(Memory.build(labels, folder / "memory", encoder=encoder, templates=TEMPLATES), inputs)


def build_from_the_same_files(folder: Path, _encoder: HashEncoder) -> None:
    assert unchanged_memory(folder / "memory", input_hash([folder / "labels.csv"], {})) is not None


def add(labels: str) -> Callable[[Path, HashEncoder], None]:
    def step(folder: Path, encoder: HashEncoder) -> None:
        Memory.open(folder / "memory").add(read_labels(folder / labels), encoder=encoder)

    return step


def remove(folder: Path, _encoder: HashEncoder) -> None:
    Memory.open(folder / "memory").remove(["thing number 17"])


def opening(folder: Path, _encoder: HashEncoder) -> None:
    _ = Memory.open(folder / "memory").vectors


def answer(folder: Path, encoder: HashEncoder) -> None:
    """Open, rank the categories for one image, and read the descriptions of the best five."""
    opened = Memory.open(folder / "memory")
    scorer = Scorer(opened.vectors, ScoreSettings())
    exact = opened.index_kind == "exact"
    retriever = make_retriever(opened, scorer, temperature=0.05, approximate=not exact)
    rows = np.random.default_rng(0).standard_normal((1 + REGIONS, encoder.card.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    features = ImageFeatures(
        image=rows[:1],
        regions=rows[None, 1:],
        boxes_xyxy=np.zeros((1, REGIONS, 4), np.float32),
        region_weight=np.ones((1, REGIONS), np.float32),
        region_area=np.zeros((1, REGIONS), np.float32),
    )
    found = retriever.retrieve(features, 5)[0]
    assert all(opened.vectors.categories[row].descriptions for row in found.rows.tolist())


def texts_of(labels: Path) -> list[str]:
    """Return the texts that the plain script encodes: of each name, and of it with each description."""
    with labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = dict.fromkeys(row["name"] for row in rows)
    return [*names, *(f"{row['name']}, {row['description']}" for row in rows)]


def plain_build(folder: Path, encoder: HashEncoder) -> None:
    texts = texts_of(folder / "labels.csv")
    parts = [encoder.encode_texts(texts[at : at + 10_000]).astype(np.float16) for at in range(0, len(texts), 10_000)]
    save_plainly(folder, texts, np.concatenate(parts))


def plain_add(labels: str) -> Callable[[Path, HashEncoder], None]:
    def step(folder: Path, encoder: HashEncoder) -> None:
        new = texts_of(folder / labels)
        texts, vectors = json.loads((folder / "plain.json").read_text()), np.load(folder / "plain.npy")
        save_plainly(folder, texts + new, np.concatenate([vectors, encoder.encode_texts(new).astype(np.float16)]))

    return step


def save_plainly(folder: Path, texts: list[str], vectors: np.ndarray) -> None:
    (folder / "plain.json").write_text(json.dumps(texts))
    np.save(folder / "plain.npy", vectors)


def append(labels: str) -> Callable[[Path, HashEncoder], None]:
    def step(folder: Path, encoder: HashEncoder) -> None:
        vectors = encoder.encode_texts(texts_of(folder / labels)).astype(np.float16)
        with (folder / "appended.bin").open("ab") as file:
            file.write(vectors.tobytes())
            file.flush()
            os.fsync(file.fileno())

    return step


def hash_labels(folder: Path, _encoder: HashEncoder) -> None:
    file_sha256(folder / "labels.csv")


STEPS: dict[str, Callable[[Path, HashEncoder], None]] = {
    "build": build,
    "build, nothing to do": build,
    "build from the same files": build_from_the_same_files,
    "open": opening,
    "open to first answer": answer,
    "add one": add("one.csv"),
    "add 1,000": add("thousand.csv"),
    "remove one": remove,
    "open after edits": opening,
    "answer after edits": answer,
}
COMPARED: dict[str, Callable[[Path, HashEncoder], None]] = {
    "plain build": plain_build,
    "plain add one": plain_add("one.csv"),
    "plain add 1,000": plain_add("thousand.csv"),
    "append one": append("one.csv"),
    "append 1,000": append("thousand.csv"),
    "hash the labels": hash_labels,
}


def memory_kilobytes() -> dict[str, int]:
    """Return what the system says of this process's memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {key: int(status[key].split()[0]) for key in ("RssAnon", "RssFile", "RssShmem")}


class Peak(threading.Thread):
    """Reads the anonymous memory of this process until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.kilobytes = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            self.kilobytes = max(self.kilobytes, memory_kilobytes()["RssAnon"])


def measured(step: str, folder: Path, dim: int) -> dict[str, float]:
    """Run a step in this process."""
    encoder = HashEncoder(dim=dim)
    encoder.card = replace(encoder.card, spec={"kind": "starter"})  # whose weights do not change
    peak = Peak()
    peak.start()
    started, cpu = time.perf_counter(), time.process_time()
    (STEPS | COMPARED)[step](folder, encoder)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak.stopped.set()
    kilobytes = memory_kilobytes()
    return {
        "seconds": seconds,
        "cpu": cpu,
        "anonymous": kilobytes["RssAnon"] / 1024,
        "mapped": kilobytes["RssFile"] / 1024,
        "peak anonymous": max(peak.kilobytes, kilobytes["RssAnon"]) / 1024,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run_step(step: str, folder: Path, dim: int) -> dict[str, float]:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__, "--child", step, "--folder", str(folder), "--dim", str(dim)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def comparisons(categories: int, descriptions: int, dim: int, folder: Path) -> Iterator[Comparison]:
    """Yield the edits, beside those of the plain script."""
    write_labels(folder / "labels.csv", range(categories), descriptions)
    end = categories

    def seconds(*steps: str) -> list[float]:
        return [run_step(step, folder, dim)["seconds"] for step in steps]

    seconds("build", "plain build")
    what = f"{categories:,} categories x {descriptions} descriptions"
    for file, count, number in (("one.csv", 1, "one"), ("thousand.csv", 1000, "1,000")):
        turns = []
        for _ in range(ROUNDS):
            write_labels(folder / file, range(end, end + count), descriptions)
            end += count
            turns.append(seconds(f"add {number}", f"plain add {number}", f"append {number}"))
        medians = [statistics.median(column) for column in zip(*turns, strict=True)]
        yield Comparison(
            f"`add` of {number} to {what}", "s", *medians, peer_is="plain script", bound_is="append the vectors"
        )
    seconds("build")  # what was added is gone from the labels
    steps = ("build from the same files", "plain build", "hash the labels")
    turns = [seconds(*steps) for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*turns, strict=True)]
    yield Comparison(
        f"build with nothing to do, {what}", "s", *medians, peer_is="plain script", bound_is="hash the label file"
    )


def rows(categories: int, descriptions: int, dim: int, folder: Path, steps: list[str]) -> Iterator[list[str]]:
    """Yield a row of the table for each step."""
    write_labels(folder / "labels.csv", range(categories), descriptions)
    write_labels(folder / "one.csv", range(categories, categories + 1), descriptions)
    write_labels(folder / "thousand.csv", range(categories + 1, categories + 1001), descriptions)
    for step in steps:
        figures = run_step(step, folder, dim)
        disk = sum(path.stat().st_size for path in (folder / "memory").rglob("*") if path.is_file()) / 2**20
        yield [
            f"{categories:,}: {step}",
            f"{figures['seconds']:.2f}",
            f"{figures['cpu']:.2f}",
            *(f"{figures[key]:,.0f}" for key in COLUMNS[3:7]),
            f"{disk:,.0f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", type=int, nargs="*", default=[10_000])
    parser.add_argument("--descriptions", type=int, default=5)
    parser.add_argument("--dim", type=int, default=1384, help="of the starter")
    parser.add_argument("--folder", type=Path, help="where the memories are made and deleted; needs their disk twice")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measured(arguments.child, arguments.folder, arguments.dim)))
        return
    if arguments.json:
        compared: list[Comparison] = []
        for categories in arguments.categories:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
                compared += comparisons(categories, arguments.descriptions, arguments.dim, Path(name))
        hand_over(arguments.json, compared)
        return
    lines = []
    for categories in arguments.categories:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            for row in rows(categories, arguments.descriptions, arguments.dim, Path(name), arguments.steps):
                print(" | ".join(row), file=sys.stderr, flush=True)
                lines.append(row)
    print(table(list(COLUMNS), lines))


if __name__ == "__main__":
    main()
