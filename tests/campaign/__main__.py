"""The whole campaign: kills, damaged files, writers at once, growth of memory; about half an hour on two cores.

usage: python -m tests.campaign [--output campaign.jsonl] [--seed 0] [--scale 1.0]

Parts that stand in the output file with the same seed and scale are not run again, so an interrupted campaign is
resumed by the same command. Each part is a script of this folder that runs by itself as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
PARTS: dict[str, tuple[str, str, int]] = {
    "edits killed": ("kill_edits.py", "--kills", 300),
    "builds killed": ("kill_build.py", "--kills", 120),
    "commands killed, each": ("kill_commands.py", "--kills", 20),
    "files mutated": ("mutations.py", "--count", 10_000),
    "rounds of 4 writers": ("writers.py", "--rounds", 200),
    "images in one run": ("memory_growth.py", "--images", 5000),
}
"""By title, the script, the option that sets its size, and the size."""
SEEDED = {"kill_edits.py", "kill_build.py", "kill_commands.py", "mutations.py"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("campaign.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    done = {}
    if arguments.output.exists():
        lines = map(json.loads, arguments.output.read_text().splitlines())
        done = {
            line["part"]: line for line in lines if (line["seed"], line["scale"]) == (arguments.seed, arguments.scale)
        }
    for title, (script, option, size) in PARTS.items():
        if title in done:
            continue
        scaled = max(1, round(size * arguments.scale))
        command = [sys.executable, str(FOLDER / script), option, str(scaled)]
        command += ["--seed", str(arguments.seed)] if script in SEEDED else []
        started = time.monotonic()
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        done[title] = {
            "part": title,
            "seed": arguments.seed,
            "scale": arguments.scale,
            "size": scaled,
            "held": ended.returncode == 0,
            "seconds": round(time.monotonic() - started),
            "printed": ended.stdout.splitlines(),
        }
        with arguments.output.open("a") as stream:
            stream.write(json.dumps(done[title]) + "\n")
    print(f"| part (seed {arguments.seed}) | size | held | seconds | printed |\n|---|---|---|---|---|")
    for title, line in done.items():
        printed = "; ".join(" ".join(text.split()) for text in line["printed"])
        print(f"| {title} | {line['size']} | {'yes' if line['held'] else 'NO'} | {line['seconds']} | {printed} |")
    sys.exit(not all(line["held"] for line in done.values()))


if __name__ == "__main__":
    main()
