"""The OpenAI-compatible backend against a scripted server: throughput, and 200 injected faults.

usage: python tests/benchmarks/rerank_server.py [--latency 0.05] [--concurrency 16] [--requests 640] [--rounds 5]

The server runs in a process of its own, as a real one does. Ideal is concurrency / latency; the table gives the best
and the middle of the rounds, for other work on the machine slows single rounds. Then come images/s with all rotations
and with `rotations: auto`, which takes two calls, in turns: where three rotations settle every image, and where they
settle none. Then every request meets a fault, at each attempt or at the first one only; rows lost are requests without
an answer and without a failure, wrong images are answers that belong to another request's image.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from recognizer.console import table
from rerank.backends.image_requests import ImageRequests
from rerank.backends.openai_server import OpenAIServer
from rerank.backends.server_client import ServerClient
from rerank.base import Candidate, Question
from rerank.choice import Rotations
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest
from rerank.prompt import choice_text
from rerank.reranker import MllmReranker
from tests.rerank.fake_server import FAULTS, Behaviour, Body, FakeServer, image_of, picture, seen_number

FAULTY = 200
TIMEOUT_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each reply")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--requests", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    near, far = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(far, arguments.latency))
    process.start()
    url = near.recv()
    print(throughput(url, arguments.latency, arguments.concurrency, arguments.requests, arguments.rounds))
    print(all_and_auto(url, arguments.concurrency, arguments.requests // 5, arguments.rounds))
    near.send(None)
    process.join()
    print(faults(arguments.concurrency))


def serve(pipe: Connection, latency_s: float) -> None:
    with FakeServer(Behaviour(latency_s=latency_s)) as server:
        pipe.send(server.url)
        pipe.recv()


def question(number: int, place: int | None = None, image: Image.Image | None = None) -> ChoiceRequest:
    """Ask about the picture of a number; its name stands in that place of the options, by default number % 5."""
    others = [f"thing {(number + 7 * step) % 256}" for step in range(1, 5)]
    place = number % 5 if place is None else place
    names = [*others[:place], f"thing {number}", *others[place:]]
    return ChoiceRequest(image or picture(number), choice_text([Candidate(name) for name in names]), SYMBOLS[:5])


def rotations(number: int) -> list[ChoiceRequest]:
    """Ask about a picture in all five places, as the reranker does: the requests share the image."""
    image = picture(number)
    return [question(number, place, image) for place in range(5)]


def throughput(url: str, latency_s: float, concurrency: int, count: int, rounds: int) -> str:
    mllm = OpenAIServer(ImageRequests(ServerClient(url), concurrency=concurrency))
    mllm.choose([question(number) for number in range(concurrency + 1)])  # finds the dialect, opens connections
    requests = [request for number in range(-(-count // 5)) for request in rotations(number % 256)][:count]
    rates, work = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        answers = mllm.choose(requests)
        rates.append(count / (time.perf_counter() - start))
        work.append((time.process_time() - used) / count * 1e3)
        if any(not isinstance(a, Choice) or a.chosen != n % 5 for n, a in enumerate(answers)):
            raise SystemExit("a wrong answer")
    mllm.close()
    ideal = concurrency / latency_s
    rows = [
        [name, f"{rate:.0f}", f"{ideal:.0f}", f"{rate / ideal:.2f}", f"{min(work):.2f}"]
        for name, rate in (("best", max(rates)), ("median", statistics.median(rates)))
    ]
    title = f"{count} requests, {latency_s * 1e3:.0f} ms each, {concurrency} in flight"
    return f"{title}\n{table(['round', 'requests/s', 'ideal', 'ratio', 'CPU ms/request'], rows)}\n"


def all_and_auto(url: str, concurrency: int, images: int, rounds: int) -> str:
    """Measure images/s by the best round; a picture whose name is not among the options leaves the server unsure."""
    rows = []
    for kind, step in (("all settled", 0), ("none settled", 1)):
        questions = [
            Question(
                str(number),
                lambda number=number: picture(number % 256),  # type: ignore[misc]
                [Candidate(f"thing {(number + 7 * place + step) % 256}") for place in range(5)],
            )
            for number in range(images)
        ]
        rates: dict[Rotations, float] = {None: 0.0, "auto": 0.0}
        asked: dict[Rotations, float] = {}
        mllm = OpenAIServer(ImageRequests(ServerClient(url), concurrency=concurrency))
        MllmReranker(mllm).rank_many(questions[:1])
        for _ in range(rounds):
            for rotations, rate in rates.items():
                reranker = MllmReranker(mllm, rotations=rotations)
                start = time.perf_counter()
                reranker.rank_many(questions)
                rates[rotations] = max(rate, images / (time.perf_counter() - start))
                asked[rotations] = reranker.counts.requests / images
        mllm.close()
        rows.append([kind, f"{rates[None]:.1f}", f"{rates['auto']:.1f}", f"{asked['auto']:.1f}"])
    heading = ["images", "all: images/s", "auto: images/s", "auto: requests/image"]
    return f"{images} images, 5 options\n{table(heading, rows)}\n"


def faults(concurrency: int) -> str:
    asked: Counter[int] = Counter()
    kinds = [kind for kind in FAULTS if kind not in ("cut", "nan")]

    def fault(_: int, body: Body) -> str | None:
        number = seen_number(image_of(body))
        asked[number] += 1
        lasting = number // len(kinds) % 2 == 0
        return kinds[number % len(kinds)] if number < FAULTY and (lasting or asked[number] == 1) else None

    with FakeServer(Behaviour(fault=fault)) as server:
        mllm = OpenAIServer(
            ImageRequests(ServerClient(server.url, timeout_s=TIMEOUT_S, backoff_s=0.05), concurrency=concurrency)
        )
        mllm.choose([question(255)])
        start = time.perf_counter()
        answers = mllm.choose([question(number) for number in range(FAULTY)])
        seconds = time.perf_counter() - start
        mllm.close()
    rows = []
    for place, kind in enumerate(kinds):
        mine = [(number, answers[number]) for number in range(place, FAULTY, len(kinds))]
        right = sum(isinstance(answer, Choice) and answer.chosen == number % 5 for number, answer in mine)
        wrong = sum(isinstance(answer, Choice) for _, answer in mine) - right
        statuses = Counter(answer.status.partition(":")[0] for _, answer in mine if not isinstance(answer, Choice))
        said = ", ".join(f"{count} {status}" for status, count in statuses.items())
        rows.append([kind, str(len(mine)), str(right), str(wrong), said])
    lost = FAULTY - len(answers)
    header = table(["fault", "requests", "answered", "wrong image", "failures"], rows)
    return f"{header}\n{FAULTY} faults in {seconds:.1f} s (time-out {TIMEOUT_S} s): {lost} rows lost"


if __name__ == "__main__":
    main()
