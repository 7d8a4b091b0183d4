"""A reranker beside the constrained choice: the same tiny model, the same images, both served by vLLM.

usage: RECOGNIZER_VLLM_PYTHON=$(.ci/vllm_environment) python tests/benchmarks/reranker.py [--images 60] [--rounds 3]

As a reranker the model judges each candidate by itself, P(yes), in one request per image; by constrained choice it
compares them, once per rotation of the options. Each server runs alone; the table gives the best round of each way.
Retrieval has no say (weight 8), and the truth never stands first.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from recognizer.console import table
from rerank.backends import BackendOptions, open_mllm
from rerank.reranker import MllmReranker
from tests.rerank.seeing import Case, answers, make_cases, right_share
from tests.rerank.vllm_server import AS_RERANKER, vllm_server

WEIGHT = 8.0  # so large that the model's answer decides alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cases = make_cases(arguments.images, swapped=False)
    rows = []
    with vllm_server() as url:
        rows.append(measured("choice, all 5 rotations", url, None, cases, arguments.rounds))
        rows.append(measured("choice, 1 rotation", url, 1, cases, arguments.rounds))
    with vllm_server(*AS_RERANKER) as url:
        rows.append(measured("reranker", f"reranker:{url}", None, cases, arguments.rounds))
    heading = ["way", "requests/image", "requests/s", "images/s", "prompt tokens/image", "top-1"]
    print(f"{arguments.images} images, 5 options, the truth never first\n{table(heading, rows)}")


def measured(way: str, model: str, rotations: int | None, cases: list[Case], rounds: int) -> list[str]:
    mllm = open_mllm(model, BackendOptions(jpeg_quality=None))
    answers(MllmReranker(mllm), cases[:1])  # finds the dialect, opens connections
    best, reranker, found = float("inf"), None, []
    for _ in range(rounds):
        asked = MllmReranker(mllm, rotations=rotations, weight=WEIGHT)
        started = time.perf_counter()
        found = answers(asked, cases)
        best, reranker = min(best, time.perf_counter() - started), asked
    mllm.close()
    assert reranker is not None
    counts = reranker.counts
    return [
        way,
        f"{counts.requests / len(cases):.0f}",
        f"{counts.requests / best:.1f}",
        f"{len(cases) / best:.1f}",
        f"{counts.prompt_tokens / len(cases):.0f}",
        f"{right_share(cases, found):.3f}",
    ]


if __name__ == "__main__":
    main()
