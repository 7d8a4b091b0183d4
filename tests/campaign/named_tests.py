"""The tests of the default run that stand for a figure as they are, and how many of their cases hold.

usage: python -m tests.campaign.named_tests F10
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.campaign.conclusion import conclude

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    "F7": [f"tests/recognizer/images/test_{name}.py" for name in ("content", "decode", "limits", "pixels", "walk")],
    "F10": ["tests/rerank/backends/test_openai_server.py", "tests/rerank/test_parse.py", "tests/rerank/test_ask.py"],
    "F11": ["tests/rerank/test_prompt.py", "tests/rerank/test_reranker.py"],
    "F16": ["tests/recognizer/encoder/open_clip/test_weights_file.py"],
    "F17": ["tests/recognizer/images/test_workers.py"],
    "F18": ["tests/recognizer/results/test_tables.py", "tests/recognizer/test_console.py"],
    "F19": [
        "tests/memory/test_encoder_card.py",
        "tests/memory/test_manifest.py",
        "tests/recognizer/encoder/test_parts.py",
        "tests/recognizer/results/test_run_info.py",
        "tests/training/test_run_state.py",
    ],
}
"""Hostile images, faults of an MLLM, hostile names, evil checkpoints, killed workers, injected text, version skew."""
_OUTCOME = re.compile(r"(\d+) (passed|failed|errors?)\b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=list(FIGURES))
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-n0", "-q", *FIGURES[arguments.figure]]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    outcomes = {what.rstrip("s"): int(number) for number, what in _OUTCOME.findall(done.stdout.splitlines()[-1])}
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))))
    conclude(outcomes.get("passed", 0), sum(outcomes.values()), "tests")


if __name__ == "__main__":
    main()
