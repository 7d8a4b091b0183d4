"""Every claim of speed beside what people use today, as one table in Markdown.

usage: python tests/benchmarks/table.py [PICTURES] [--rows 1 2 ...] [--full] [--growth growth.png]
       python tests/benchmarks/table.py --rows 3 --cache DIR --features FILE.npz [FILE.npz ...] [--work DIR]

Each row is a script of this folder in a process of its own; its lines are printed as soon as they are there. What a
line compares ran in turns, in one process or in processes of their own; ratios are those of medians. Without options
all but row 3 take about half an hour on two quiet cores; `--full` takes the sizes of the claims, and
hours. PICTURES, for row 9, is a folder of photographs; without it they are the demo's, enlarged. Row 3 needs what
`search.py` says. A row that fails says so in its line and costs no other.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from recognizer.console import note
from tests.benchmarks.comparison import Comparison, handed_over

HERE = Path(__file__).parent
COLUMNS = ("row", "ours", "peer", "bound", "times as fast as the peer", "share of the bound", "command")


@dataclass(frozen=True)
class Row:
    """A row: a script and its arguments, short ones and those of `--full`."""

    script: str
    short: str
    full: str


ROWS = {
    1: Row("text_encoding.py", "--names 40", "--names 100 --rounds 5"),
    2: Row("folder.py", "--small 200 --large 24", "--small 1000 --large 64 --rounds 3"),
    3: Row("search.py", "--sizes 10000", "--sizes 10000 100000 1000000"),
    4: Row(
        "scoring.py",
        "--index ivf --categories 20000 --descriptions 3 --regions 5",
        "--index ivf --categories 100000 --descriptions 3 --regions 5",
    ),
    5: Row("start_up.py", "--rounds 3", "--rounds 5"),
    6: Row("large_memory.py", "10000", "100000"),
    7: Row(
        "training_step.py",
        "--models towers ViT-S-32 --ranks 1",
        "--models towers ViT-S-32 --ranks 1 --batch 32 --repeats 7",
    ),
    8: Row(
        "growth.py",
        "--categories 10000 --pictures 10000 --encode 100",
        "--categories 1000000 --pictures 100000",
    ),
    9: Row("ray_engine.py", "--images 64 --copies 2", "--images 200 --copies 4"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?", help="folder of photographs for row 9")
    parser.add_argument("--rows", type=int, nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--full", action="store_true", help="the sizes of the claims; takes hours")
    parser.add_argument("--growth", type=Path, default=Path("growth.png"), help="picture of row 8")
    parser.add_argument("--cache", type=Path, help="of search.py")
    parser.add_argument("--features", type=Path, nargs="+", help="of search.py")
    parser.add_argument("--work", type=Path, help="of search.py")
    options = parser.parse_args()
    print(f"{machine()}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for number in options.rows:
        if number == 3 and not (options.cache and options.features):
            print(line(number, "left out: give --cache and --features"), flush=True)
            continue
        row = ROWS[number]
        command = [row.script, *arguments(number, options), *(row.full if options.full else row.short).split()]
        started = time.perf_counter()
        for text in lines(number, command):
            print(text, flush=True)
        note(f"row {number} took {time.perf_counter() - started:.0f} s")


def arguments(number: int, options: argparse.Namespace) -> Iterator[str]:
    """Yield the arguments that a row takes from the options."""
    if number == 3:
        yield from ("--cache", str(options.cache), "--features", *map(str, options.features))
    if number in (3, 8) and options.work:
        yield from ("--work", str(options.work))
    if number == 8:
        yield from ("--output", str(options.growth))
    if number == 9 and options.pictures:
        yield str(options.pictures)


def lines(number: int, command: Sequence[str]) -> Iterator[str]:
    """Run a script and yield the lines of its comparisons; what it prints goes to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        whole = [sys.executable, str(HERE / command[0]), *command[1:], "--json", str(file)]
        code = subprocess.run(whole, stdout=sys.stderr).returncode
        shown = f"`python tests/benchmarks/{' '.join(command)}`"
        if code or not file.is_file():
            yield line(number, f"failed with exit status {code}", command=shown)
            return
        for place, one in enumerate(handed_over(file)):
            yield line(number, **cells(one), command="the same" if place else shown)


def cells(one: Comparison) -> dict[str, str]:
    """Return the cells of a comparison."""
    faster, share = one.against(one.peer), one.against(one.bound)
    return {
        "what": one.what,
        "ours": figure(one.ours, one.unit),
        "peer": "" if one.peer is None else f"{figure(one.peer, one.unit)} ({one.peer_is})",
        "bound": "" if one.bound is None else f"{figure(one.bound, one.unit)} ({one.bound_is})",
        "faster": "" if faster is None else rounded(faster),
        "share": "" if share is None else rounded(share),
    }


def line(
    number: int, what: str, ours: str = "", peer: str = "", bound: str = "", faster: str = "", share: str = "",
    command: str = "",
) -> str:  # fmt: skip
    """Return a line of the table."""
    return f"| {number}. {what} | {ours} | {peer} | {bound} | {faster} | {share} | {command} |"


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit."""
    return f"{rounded(value)} {unit}"


def rounded(value: float) -> str:
    """Return a number with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> str:
    """Name the machine and the libraries."""
    information = Path("/proc/cpuinfo")
    fields = [text.split(":", 1) for text in information.read_text().splitlines() if ":" in text]
    names = [value.strip() for name, value in fields if name.strip() == "model name"]
    return f"{os.cpu_count()} processors ({names[0] if names else platform.machine()}), torch {torch.__version__}"


if __name__ == "__main__":
    main()
