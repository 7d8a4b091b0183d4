"""The whole campaign: kills, failing disks, power losses, damaged files, writers at once; half an hour on two cores.

usage: python -m tests.campaign [--output campaign.jsonl] [--seed 0] [--scale 1.0] [--parts NAME ...]

Parts that stand in the output file with the same seed and scale are not run again, so an interrupted campaign is
resumed by the same command. Each part is a module of this folder that runs by itself as well. At the end a table says
how many trials of each part held, and the bound of the rule of three: where none of N failed, fewer than 3/N do, with
95 % confidence. Beside the minutes that a part took stand those of a processor, in the part and in all processes that
it started and waited for: on a busy machine the former grow and the latter do not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaign.conclusion import bound, read_conclusion

ROOT = Path(__file__).resolve().parents[2]
# Parts that run at a time, one for each of two cores.
AT_A_TIME = 2


@dataclass(frozen=True)
class Part:
    """A part of the campaign.

    Attributes:
        figure: what it measures; F20, mutations of the code, is the table in `tests/README.md`.
        module: of this folder.
        arguments: of the module.
        option: sets the size; "": it has one size.
        size: trials at scale 1.
        seeded: whether the module takes a seed.
    """

    figure: str
    module: str
    arguments: tuple[str, ...] = ()
    option: str = ""
    size: int = 1
    seeded: bool = True

    @property
    def name(self) -> str:
        """Tells parts apart."""
        return " ".join((self.figure, self.module, *self.arguments))


def _tests(figure: str) -> Part:
    return Part(figure, "named_tests", (figure,), seeded=False)


PARTS = [  # the longest first
    Part("F12", "kill_commands", ("--commands", "run"), "--kills", 25),
    Part("F12", "kill_commands", ("--commands", "rerank", "calibrate"), "--kills", 10),
    Part("F13", "kill_commands", ("--commands", "train", "ranks"), "--kills", 10),
    Part("F2", "kill_points", (), "--points", 500),
    Part("F3", "io_faults", (), "--faults", 400),
    Part("F4", "power_loss", (), "--cases", 500),
    Part("F1", "kill_edits", (), "--kills", 150),
    Part("F1", "kill_build", (), "--kills", 60),
    Part("F12", "kill_annotate", (), "--kills", 20),
    Part("F12", "kill_describe", (), "--kills", 20),
    Part("F12", "kill_review", (), "--kills", 20),
    Part("F9", "mutations", ("--kinds", "index", "weights"), "--count", 13_000),
    Part("F8", "mutations", ("--kinds", "labels", "settings"), "--count", 50_000),
    Part("F6", "mutations", ("--kinds", "images"), "--count", 100_000),
    Part("F5", "mutations", ("--kinds", "memory", "checkpoint"), "--count", 3000),
    Part("F14", "writers", (), "--rounds", 200, seeded=False),
    Part("B7", "memory_growth", (), "--images", 5000, seeded=False),
    *map(_tests, ("F7", "F10", "F11", "F16", "F17", "F18", "F19")),
]


def run(part: Part, seed: int, scale: float) -> dict[str, Any]:
    """Run a part; returns its line of the output file."""
    command = [sys.executable, "-m", f"tests.campaign.{part.module}", *part.arguments]
    command += [part.option, str(max(1, round(part.size * scale)))] if part.option else []
    command += ["--seed", str(seed)] if part.seeded else []
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read().splitlines()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "part": part.name,
        "seed": seed,
        "scale": scale,
        "code": process.returncode,
        "minutes": (time.monotonic() - started) / 60,
        "processor_minutes": (used.ru_utime + used.ru_stime) / 60,
        "printed": printed,
    }


def row(part: Part, line: dict[str, Any]) -> str:
    """Return the row of a part in the table."""
    held, total, what = read_conclusion(line["printed"]) or (0, 0, "trials: it broke off")
    below = bound(total) if held == total else "-"
    verdict = "yes" if not line["code"] else "NO"
    minutes = f"{line['minutes']:.1f} | {line['processor_minutes']:.1f}"
    return f"| {part.name} | {total} {what} | {held} | {verdict} | {minutes} | {below} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("campaign.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--parts", nargs="+", choices=sorted({part.module for part in PARTS}))
    arguments = parser.parse_args()
    parts = [part for part in PARTS if arguments.parts is None or part.module in arguments.parts]
    done: dict[str, dict[str, Any]] = {}
    if arguments.output.exists():
        for line in map(json.loads, arguments.output.read_text().splitlines()):
            if (line["seed"], line["scale"]) == (arguments.seed, arguments.scale):
                done[line["part"]] = line
    missing = [part for part in parts if part.name not in done]
    with ThreadPoolExecutor(AT_A_TIME) as pool, arguments.output.open("a") as stream:
        for future in as_completed(pool.submit(run, part, arguments.seed, arguments.scale) for part in missing):
            line = future.result()
            done[line["part"]] = line
            stream.write(json.dumps(line) + "\n")
            stream.flush()
    for part in parts:
        for text in done[part.name]["printed"][:-1]:
            print(f"{part.name}: {' '.join(text.split())}")
    print(f"\n| part (seed {arguments.seed}) | N | held | all | minutes | of a processor | faults below |")
    print("|---|---|---|---|---|---|---|")
    for part in parts:
        print(row(part, done[part.name]))
    print("\nF20: the changes of the code that a test must notice stand in tests/README.md.")
    sys.exit(any(done[part.name]["code"] for part in parts))


if __name__ == "__main__":
    main()
