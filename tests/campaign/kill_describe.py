"""Kill `describe` while a language model answers, and go on: the file is that of an uninterrupted run.

usage: python tests/campaign/kill_describe.py [--kills 20] [--seed 0]

All questions that the model gets are counted: they may be those of one uninterrupted run and one batch per kill.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from memory import Category  # noqa: E402
from recognizer.describing.describe import described, write_described  # noqa: E402
from recognizer.describing.sources import written_drafts  # noqa: E402
from recognizer.reranking.open import open_writer  # noqa: E402
from recognizer.settings import RerankSettings  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402
from tests.memory.fake_encoder import FakeEncoder  # noqa: E402
from tests.rerank.fake_server import Behaviour, FakeServer, text_of  # noqa: E402

CATEGORIES, CONCURRENCY = 60, 3
BATCH = 2 * CONCURRENCY


def answer(body: dict[str, object]) -> str:
    """Describe what is asked about, the same way each time."""
    rng = random.Random(text_of(body))
    return json.dumps({"descriptions": [f"{rng.choice(('red', 'blue'))} part {rng.randrange(99)}" for _ in range(4)]})


def describe(url: str, cache: Path, output: Path) -> None:
    """Do what the command does, with an encoder that loads at once."""
    categories = [Category(f"thing {number}") for number in range(CATEGORIES)]
    encoder = FakeEncoder()
    encoder.default_templates = ("{}",)
    writer = open_writer(RerankSettings(model=url, cache=str(cache), concurrency=CONCURRENCY))
    drafts = written_drafts(categories, encoder, writer)
    writer.close()
    write_described(described(categories, drafts, "llm").categories, output)


def survive(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill runs up to three times each and let them end, until there were enough kills; returns what happened."""
    rng = random.Random(seed)
    counts = {"kills": 0, "other files": 0, "questions": 0, "most questions": 0}
    with FakeServer(Behaviour(lists=answer, latency_s=0.01)) as server:
        describe(server.url, folder / "whole.sqlite", folder / "whole.jsonl")
        questions = len(server.chats)
        run = 0
        while counts["kills"] < kills:
            run += 1
            before, killed = len(server.chats), 0
            cache, output = folder / f"{run}.sqlite", folder / f"{run}.jsonl"
            command = [sys.executable, __file__, "--child", server.url, str(cache), str(output)]
            for _ in range(min(rng.randint(1, 3), kills - counts["kills"])):
                process = subprocess.Popen(command)
                wanted = len(server.chats) + rng.randint(1, CATEGORIES // 4)
                while process.poll() is None and len(server.chats) < wanted:
                    time.sleep(0.001)
                killed += process.poll() is None
                process.kill()
                process.wait()
            subprocess.run(command, check=True)
            counts["kills"] += killed
            counts["other files"] += output.read_bytes() != (folder / "whole.jsonl").read_bytes()
            counts["questions"] += len(server.chats) - before
            counts["most questions"] += questions + BATCH * killed
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        url, cache, output = arguments.child
        describe(url, Path(cache), Path(output))
        return
    with tempfile.TemporaryDirectory() as folder:
        counts = survive(Path(folder), arguments.kills, arguments.seed)
    for what, count in counts.items():
        print(f"{what}: {count}")
    wrong = counts["other files"] + (counts["questions"] > counts["most questions"])
    conclude(counts["kills"] - wrong, counts["kills"], "kills of describe")


if __name__ == "__main__":
    main()
