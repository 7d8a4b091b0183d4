"""`recognizer serve` with the starter: speed, latency, nothing lost, and what it bears.

usage: python tests/benchmarks/serving.py [--images 400] [--requests 1000] [--connections 5000]

Speed: the demo's photographs at the size of the model input, 32 clients in flight, against the bare encoder over the
same images, in turns. Then one client alone against one forward pass; requests across swaps of the memory and a
graceful stop; and clients that mean harm. Clients are threads of another process, on the same cores as the server.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import psutil
import torch
from PIL import Image

from memory import Category, Memory, read_labels
from recognizer import Encoder
from recognizer.console import table
from recognizer.demo import DATA

CLIENTS = 32
ROUNDS = 3
SECRET = "0123456789abcdef"


@contextmanager
def serving(memory: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start the command; yields its address and its process."""
    command = [sys.executable, "-m", "recognizer", "serve", "--memory", str(memory), "--port", "0", *options]
    environment = os.environ | {"RECOGNIZER_TOKEN": SECRET}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().partition("#")[0].strip()
        while True:
            try:
                if httpx.get(f"{address}health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def photographs(size_hw: tuple[int, int]) -> list[bytes]:
    """Return the demo's photographs as JPEG files of the size of a model input."""
    files = []
    for path in sorted((DATA / "photos").glob("*.jpg")):
        stream = io.BytesIO()
        Image.open(path).convert("RGB").resize(size_hw[::-1]).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def ask(address: str, files: list[bytes], numbers: list[int], replies: multiprocessing.SimpleQueue[object]) -> None:
    """Post images from `CLIENTS` threads; the queue gets the seconds, and the seconds of each request."""
    work, seconds = iter(numbers), []
    lock = threading.Lock()

    def client() -> None:
        with httpx.Client(base_url=address, timeout=120, headers={"authorization": f"Bearer {SECRET}"}) as session:
            while True:
                with lock:
                    number = next(work, None)
                if number is None:
                    return
                started = time.perf_counter()
                reply = session.post("v1/recognize", files={"images": ("a.jpg", files[number % len(files)])})
                reply.raise_for_status()
                seconds.append(time.perf_counter() - started)

    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(min(CLIENTS, len(numbers)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    replies.put((time.perf_counter() - started, seconds))


def asked(address: str, files: list[bytes], count: int) -> tuple[float, list[float]]:
    """Post so many images from another process."""
    context = multiprocessing.get_context("spawn")
    replies = context.SimpleQueue()
    process = context.Process(target=ask, args=(address, files, list(range(count)), replies))
    process.start()
    outcome = replies.get()
    process.join()
    return outcome  # type: ignore[no-any-return]


def alone(address: str, file: bytes, count: int) -> list[float]:
    """Return the seconds of requests that come one after the other."""
    seconds = []
    with httpx.Client(base_url=address, timeout=60, headers={"authorization": f"Bearer {SECRET}"}) as session:
        for _ in range(count):
            started = time.perf_counter()
            session.post("v1/recognize", files={"images": ("a.jpg", file)}).raise_for_status()
            seconds.append(time.perf_counter() - started)
    return seconds


def bare(encoder: Encoder, files: list[bytes], count: int, batch: int = 32) -> float:
    """Return the seconds of the encoder alone over so many images, decoded before."""
    prepared = [encoder.preprocess(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    started = time.perf_counter()
    for start in range(0, count, batch):
        chosen = [prepared[number % len(prepared)] for number in range(start, min(start + batch, count))]
        encoder.encode_pixels(torch.stack([pixels for pixels, _ in chosen]), [frame for _, frame in chosen])
    return time.perf_counter() - started


def swaps_and_stop(memory: Path, encoder: Encoder, file: bytes, requests: int) -> list[list[str]]:
    """Send requests while the memory is changed, then stop the server with requests in flight."""
    outcomes: Counter[str] = Counter()
    with serving(memory) as (address, process):
        told = threading.Event()
        sent = iter(range(requests))

        def client() -> None:
            with httpx.Client(base_url=address, timeout=120, headers={"authorization": f"Bearer {SECRET}"}) as session:
                for _ in sent:
                    try:
                        reply = session.post("v1/recognize", files={"images": ("a.jpg", file)})
                        outcomes["answered" if reply.status_code == 200 else f"status {reply.status_code}"] += 1
                    except httpx.ConnectError:  # it does not listen any more
                        outcomes["not taken, after the stop" if told.is_set() else "lost"] += 1
                        return
                    except httpx.TransportError:
                        outcomes["lost"] += 1

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(5):
            time.sleep(1.5)
            Memory.open(memory).add([Category(f"thing {number}")], encoder=encoder)
        while sum(outcomes.values()) < 0.9 * requests:
            time.sleep(0.05)
        told.set()
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
    return [
        ["requests across 5 swaps of the memory and a stop", ", ".join(f"{n} {what}" for what, n in outcomes.items())]
    ]


def harm(memory: Path, file: bytes, connections: int) -> list[list[str]]:
    """Send what no friend would send; each gets its status, and the server lives on."""
    rows = []
    with serving(memory) as (address, process):
        url = httpx.URL(address)
        place = (url.host, url.port or 80)
        headers = {"authorization": f"Bearer {SECRET}"}
        alone(address, file, 8)
        before = process.memory_info().rss

        def huge(_: int) -> str:
            try:
                content = iter([b"x" * 2**20] * 300)
                return str(
                    httpx.post(
                        f"{address}v1/recognize",
                        content=content,
                        headers=headers | {"content-type": "application/json"},
                    ).status_code
                )
            except httpx.TransportError:
                return "closed"

        with ThreadPoolExecutor(8) as pool:
            rows.append(["8 bodies of 300 MB", _counts(pool.map(huge, range(8)))])
        rng = random.Random(0)

        def mutated(_: int) -> str:
            content = bytearray(file)
            for _ in range(20):
                content[rng.randrange(len(content))] = rng.randrange(256)
            reply = httpx.post(
                f"{address}v1/recognize", files={"images": ("a.jpg", bytes(content))}, headers=headers, timeout=120
            )
            assert "Traceback" not in reply.text
            row = reply.json()["rows"][0]
            return f"{reply.status_code} {row['status']}"

        with ThreadPoolExecutor(8) as pool:
            rows.append(["200 mutated images", _counts(pool.map(mutated, range(200)))])
        wrong = (httpx.get(f"{address}v1/categories", headers={"authorization": f"Bearer {n}"}) for n in range(50))
        rows.append(["50 wrong tokens", _counts(str(reply.status_code) for reply in wrong)])
        drips = [socket.create_connection(place) for _ in range(50)]
        head = b"POST /v1/recognize HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + SECRET.encode()
        for drip in drips:
            drip.sendall(head + b"\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n")
        held = []
        for _ in range(connections):
            try:
                held.append(socket.create_connection(place, timeout=5))
            except OSError:
                break
        rows.append([f"{connections} connections", f"{len(held)} opened"])
        most = process.memory_info().rss
        for connection in held:
            connection.close()
        status = []
        for drip in drips:
            try:
                drip.settimeout(1)
                while True:
                    drip.sendall(b" ")
                    try:
                        status.append(drip.recv(12).decode()[9:] or "closed")
                        break
                    except TimeoutError:
                        continue
            except OSError:
                status.append("closed")
        rows.append(["50 bodies that drip", _counts(status)])
        seconds = alone(address, file, 4)
        rows.append(["afterwards", f"{len(seconds)} of 4 answered"])
        rows.append(
            [
                "RSS before, with all of them open, after",
                ", ".join(f"{size / 2**20:.0f} MiB" for size in (before, most, process.memory_info().rss)),
            ]
        )
    return rows


def _counts(outcomes: Iterator[str]) -> str:
    return ", ".join(f"{number} × {what}" for what, number in Counter(outcomes).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=5000)
    options = parser.parse_args()
    encoder = Encoder.load(device="cpu", precision="fp32")
    files = photographs(encoder.input_size_hw)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        memory = Path(name) / "memory"
        Memory.build(read_labels(DATA / "labels.json"), memory, encoder=encoder, templates=encoder.default_templates)
        with serving(memory) as (address, _):
            asked(address, files, CLIENTS)
            bare(encoder, files, CLIENTS)
            rates = []
            for _ in range(ROUNDS):
                seconds, _ = asked(address, files, options.images)
                rates.append((options.images / seconds, options.images / bare(encoder, files, options.images)))
            served, encoded = (statistics.median(side) for side in zip(*rates, strict=True))
            ratio = statistics.median(ours / theirs for ours, theirs in rates)
            rows.append(
                [
                    f"{CLIENTS} clients in flight: images/s served; bare encoder",
                    f"{served:.1f}; {encoded:.1f}: {ratio:.2f}",
                ]
            )
            passes = sorted(bare(encoder, files[:1], 1, 1) for _ in range(50))
            single = sorted(alone(address, files[0], 200))
            p99, one = single[197], statistics.median(passes)
            limit = 1.5 * one + 0.02
            rows.append(
                [
                    "one client: median, p99; one forward pass; 1.5 passes + 20 ms",
                    ", ".join(f"{1e3 * value:.0f} ms" for value in (statistics.median(single), p99, one, limit)),
                ]
            )
        rows += swaps_and_stop(memory, encoder, files[0], options.requests)
        rows += harm(memory, files[0], options.connections)
    print(table(["what", "figure"], rows, widest=200))


if __name__ == "__main__":
    main()
