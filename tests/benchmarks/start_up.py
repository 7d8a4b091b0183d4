"""Seconds of short commands, against what they cannot do without.

usage: python tests/benchmarks/start_up.py [--rounds 5]

`info` against importing NumPy; `why` and a `run` of one image with the starter against importing torch, reading the
weights and one forward pass. The commands take turns; medians count.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recognizer.console import table
from recognizer.demo import DATA

LEAST = """
import torch
from safetensors.torch import load_file
from recognizer.encoder.starter.starter import GROUNDED_FILE, load_classifier
from recognizer.encoder.starter.weights import CLASSES_FILE, starter_text_folder
classifier = load_classifier()
for path in (starter_text_folder() / "model.safetensors", GROUNDED_FILE, CLASSES_FILE):
    load_file(path)
with torch.inference_mode():
    classifier(torch.zeros(1, 3, 320, 320))
    classifier(torch.zeros(1, 3, 224, 224))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    recognizer = [sys.executable, "-m", "recognizer"]
    with tempfile.TemporaryDirectory() as name:
        folder, photo = Path(name), str(DATA / "photos" / "coffee.jpg")
        memory = ["--memory", str(folder / "memory")]
        build = [*recognizer, "build", str(DATA / "labels.json"), *memory, "--model", "starter"]
        subprocess.run(build, check=True, capture_output=True)
        output = ["--output", str(folder / "rows.jsonl"), "--overwrite"]
        commands = {
            "import numpy": [sys.executable, "-c", "import numpy"],
            "recognizer --help": [*recognizer, "--help"],
            "recognizer info": [*recognizer, "info", *memory],
            "torch, weights, one pass": [sys.executable, "-c", LEAST],
            "recognizer why": [*recognizer, "why", photo, *memory, "--output", str(folder / "why.jpg")],
            "recognizer run, one image": [*recognizer, "run", photo, *memory, *output],
        }
        seconds: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(rounds + 1):
            for what, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[what].append(time.perf_counter() - started)
    medians = {what: statistics.median(times[1:]) for what, times in seconds.items()}  # the first fills the page cache
    least = {"recognizer info": "import numpy"} | dict.fromkeys(
        ("recognizer why", "recognizer run, one image"), "torch, weights, one pass"
    )
    rows = [
        [what, f"{median:.2f}", f"{median / medians[least[what]]:.2f}" if what in least else ""]
        for what, median in medians.items()
    ]
    print(table(["command", "seconds", "times the least"], rows))


if __name__ == "__main__":
    main()
