"""Kill `recognizer review` while corrections are sent, start it again, and look whether each of them was kept once.

usage: python -m tests.campaign.kill_review [--kills 20] [--corrections 200] [--seed 0]

Corrections are sent over HTTP as the page sends them: each under a number of its own, all that wait in one request, and
again under the same numbers until an answer comes. The server is killed up to some milliseconds after a request was
begun: before it was read, between the disk and the answer, or after the answer. The person goes on meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx

from recognizer.corrections.log import Correction, Corrections, read_corrections
from recognizer.demo import DATA
from tests.campaign.conclusion import conclude

PHOTOGRAPHS = 4
# Seconds from the beginning of a request to a kill, evenly by logarithm: an answer takes 5 ms, or 50 if others work.
FEWEST_S, MOST_S = 0.001, 0.1
AGAIN_S = 0.02  # between two attempts; the page waits 2 s


class Review:
    """The server, and what the page in the browser does."""

    def __init__(self, folder: Path) -> None:
        """Prepare results, and start the server."""
        self.log, self.temporary = folder / "corrections.jsonl", folder / "temporary"
        self.temporary.mkdir()
        self._environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(self.temporary)}
        photos = folder / "photos"
        photos.mkdir()
        for path in sorted((DATA / "photos").glob("*.jpg"))[:PHOTOGRAPHS]:
            shutil.copy(path, photos)
        self._recognizer("build", DATA / "labels.json", "--memory", folder / "memory", "--model", "starter").wait()
        rows = folder / "rows.jsonl"
        self._recognizer("run", photos, "--memory", folder / "memory", "--output", rows).wait()
        self.keys = [json.loads(line)["path"] for line in rows.read_text().splitlines()]
        self._review = ("review", rows, "--memory", folder / "memory", "--corrections", self.log)
        self._server = self._recognizer(*self._review)
        assert self._server.stdout is not None
        self._address = self._server.stdout.readline().strip()
        self.waiting: list[dict[str, Any]] = []

    def start(self) -> None:
        """Start the server again, where the open page looks for it."""
        self._server = self._recognizer(*self._review, "--port", self._address.rsplit(":", 1)[1].partition("/")[0])

    def kill(self) -> None:
        """Kill the server, and wait until it is gone."""
        self._server.kill()
        self._server.wait()

    def kill_when_longer(self, size: int) -> None:
        """Kill the server as soon as the file of corrections has grown; the answer is about to be sent then."""
        until = time.monotonic() + 60
        while self.log.stat().st_size == size and time.monotonic() < until:
            time.sleep(0.0002)
        self.kill()

    def stop(self) -> int:
        """Stop the server as a person does; return its exit status."""
        self._server.send_signal(signal.SIGTERM)
        return self._server.wait(60)

    def send(self) -> bool:
        """Send what waits, once; return whether it was answered."""
        some = self.waiting[:100]
        try:
            reply = httpx.post(f"{self._address}review/corrections", json=some, timeout=60)
        except httpx.TransportError:
            return False
        assert reply.status_code == 200, reply.text
        del self.waiting[: len(some)]
        return True

    def _recognizer(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "recognizer", *map(str, arguments)]
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


def survive(folder: Path, kills: int, corrections: int, seed: int) -> dict[str, int]:
    """Correct, kill and go on; returns what happened."""
    rng, review = random.Random(seed), Review(folder)
    counts = {"kills": kills, "requests without an answer": 0, "of them on the disk all the same": 0}
    said: list[dict[str, Any]] = []

    def say() -> None:
        number = len(said)
        is_undo = number % 10 == 9
        correction = {
            "id": f"{rng.getrandbits(128):032x}",
            "key": rng.choice(review.keys),
            "verdict": "undo" if is_undo else "category",
            "new": None if is_undo else f"thing {number}",
        }
        said.append(correction)
        review.waiting.append(correction)

    kill_at = set(rng.sample(range(1, corrections), kills))
    while len(said) < corrections:
        say()
        if len(said) in kill_at:
            if rng.random() < 0.5:
                killing = threading.Timer(FEWEST_S * (MOST_S / FEWEST_S) ** rng.random(), review.kill)
            else:
                killing = threading.Timer(0, review.kill_when_longer, [review.log.stat().st_size])
            killing.start()
            if not review.send():
                counts["requests without an answer"] += 1
                on_disk = {line["id"] for line in lines_of(review.log)}
                counts["of them on the disk all the same"] += review.waiting[0]["id"] in on_disk
            killing.join()
            review.start()
            while rng.random() < 0.5 and len(said) < corrections and len(said) + 1 not in kill_at:
                say()
        while review.waiting and not review.send():
            time.sleep(AGAIN_S)
    ids = [line["id"] for line in lines_of(review.log)]
    counts["corrections"] = len(said)
    counts["lost"] = len({one["id"] for one in said} - set(ids))
    counts["doubled"] = len(ids) - len(set(ids))
    counts["in another order"] = ids != [one["id"] for one in said]
    counts["rows with another last word"] = last_words(read_corrections(review.log)) != last_words(expected(said))
    before = len(list(review.temporary.iterdir()))
    counts["stopped with an error"] = review.stop() != 0
    counts["folders left by the stop"] = 1 + len(list(review.temporary.iterdir())) - before
    return counts


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a file as they are, also those that stand there twice, without what a kill cut off."""
    lines = []
    for line in log.read_text().splitlines():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines


def expected(said: list[dict[str, Any]]) -> Corrections:
    """Return what was said."""
    return Corrections(
        [Correction(id=one["id"], path=one["key"], verdict=one["verdict"], new=one["new"]) for one in said]
    )


def last_words(corrections: Corrections) -> dict[str, str | None]:
    """Return by row the name that counts."""
    return {key: one.new for key, one in corrections.latest().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--corrections", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = survive(Path(folder), arguments.kills, arguments.corrections, arguments.seed)
    for what, number in counts.items():
        print(f"{what:32} {number}")
    wrong = sum(list(counts.values())[list(counts).index("lost") :])
    conclude(arguments.kills - min(wrong, arguments.kills), arguments.kills, "kills of review")


if __name__ == "__main__":
    main()
