"""`recognizer serve` with the starter: speed, latency, nothing lost, and what it bears.

usage: python tests/benchmarks/serving.py [--parts speed latency ...] [--images 400] [--requests 1000] [--limit 180]

speed        the demo's photographs at the size of the model input, 32 clients in flight, against the bare encoder over
             the same images, in turns; and the processor time of an image in each process. The clients are coroutines
             of one process, on the same cores as the server, with requests that were made before.
latency      one client alone against one forward pass
swaps        requests across swaps of the memory and a graceful stop
bodies, images, tokens, drips, connections
             clients that mean harm, while a good one asks twice a second over new connections

Each figure is printed when it is there; a part that takes longer than the limit is ended, and the next begins.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import torch
from PIL import Image

from memory import Category, Memory, read_labels
from recognizer import Encoder
from recognizer.demo import DATA

CLIENTS = 32
ROUNDS = 3
SECRET = "0123456789abcdef"
HUGE = 300  # MiB
CLOSED = "closed without an answer"
JSON, FORM = "application/json", "multipart/form-data; boundary=bound"
FORM_START = b'--bound\r\ncontent-disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'

Place = tuple[str, int]


@dataclass(frozen=True)
class Setting:
    """What the parts work with."""

    memory: Path
    encoder: Encoder
    files: Sequence[bytes]
    options: argparse.Namespace


@contextmanager
def serving(memory: Path) -> Iterator[tuple[Place, psutil.Process]]:
    """Start the command; yields where it listens and its process."""
    command = [sys.executable, "-m", "recognizer", "serve", "--memory", str(memory), "--port", "0"]
    environment = os.environ | {"RECOGNIZER_TOKEN": SECRET}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        parts = urlsplit(process.stdout.readline())
        place = (parts.hostname or "", parts.port or 0)
        while asyncio.run(fresh(place, head("GET", "/health/ready")))[0] != "200":
            time.sleep(0.05)
        yield place, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            print("the server did not stop", flush=True)


def head(method: str, path: str, *lines: str, token: str = SECRET) -> bytes:
    """Return the header of a request."""
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "host: localhost", f"authorization: Bearer {token}", *lines, "", ""]
    ).encode()


def recognition(file: bytes) -> bytes:
    """Return a whole request about one image."""
    body = FORM_START + file + b"\r\n--bound--\r\n"
    return head("POST", "/v1/recognize", f"content-type: {FORM}", f"content-length: {len(body)}") + body


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Return the status and the body of an answer."""
    try:
        header = await reader.readuntil(b"\r\n\r\n")
        length = int(header.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return CLOSED, b""
    return header[9:12].decode(), body


async def fresh(place: Place, request: bytes) -> tuple[str, bytes]:
    """Ask over a new connection."""
    try:
        reader, writer = await asyncio.open_connection(*place)
    except OSError:
        return "refused", b""
    try:
        writer.write(request)
        return await answer(reader)
    finally:
        writer.close()


def ask(place: Place, files: Sequence[bytes], count: int, replies: multiprocessing.SimpleQueue[object]) -> None:
    """Ask about images from `CLIENTS` connections; the queue gets wall time and processor time."""

    async def client(numbers: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection(*place)
        for number in numbers:
            writer.write(requests[number % len(requests)])
            status, _ = await answer(reader)
            assert status == "200", status
        writer.close()

    async def clients() -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(client(numbers) for _ in range(min(CLIENTS, count))))

    requests = [recognition(file) for file in files]
    started, used = time.perf_counter(), time.process_time()
    asyncio.run(clients())
    replies.put((time.perf_counter() - started, time.process_time() - used))


def asked(place: Place, files: Sequence[bytes], count: int) -> tuple[float, float]:
    """Ask about so many images from another process; return seconds of wall time and of that process."""
    context = multiprocessing.get_context("spawn")
    replies = context.SimpleQueue()
    process = context.Process(target=ask, args=(place, files, count, replies), daemon=True)
    process.start()
    try:
        return replies.get()  # type: ignore[no-any-return]
    finally:
        process.kill()
        process.join()


def bare(encoder: Encoder, files: Sequence[bytes], count: int, batch: int = 32) -> tuple[float, float]:
    """Return seconds of wall time and of the processors that the encoder takes, for images decoded before."""
    prepared = [encoder.preprocess(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    started, used = time.perf_counter(), time.process_time()
    for start in range(0, count, batch):
        chosen = [prepared[number % len(prepared)] for number in range(start, min(start + batch, count))]
        encoder.encode_pixels(torch.stack([pixels for pixels, _ in chosen]), [frame for _, frame in chosen])
    return time.perf_counter() - started, time.process_time() - used


def processor_seconds(processes: Iterable[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def speed(at: Setting) -> Iterator[str]:
    """Ask with all clients, and encode the same images, in turns."""
    count, rounds = at.options.images, []
    with serving(at.memory) as (place, server):
        asked(place, at.files, CLIENTS)
        bare(at.encoder, at.files, CLIENTS)
        decoders = server.children(recursive=True)
        for _ in range(ROUNDS):
            before = processor_seconds([server]), processor_seconds(decoders)
            wall, clients = asked(place, at.files, count)
            after = processor_seconds([server]), processor_seconds(decoders)
            alone_wall, alone = bare(at.encoder, at.files, count)
            own, decoding = (new - old for old, new in zip(before, after, strict=True))
            rounds.append(
                [count / wall, count / alone_wall] + [1e3 * s / count for s in (own, decoding, clients, alone)]
            )
            served, encoded, own, decoding, clients, alone = (
                statistics.median(each) for each in zip(*rounds, strict=True)
            )
            ratio = statistics.median(one[0] / one[1] for one in rounds)
            share = statistics.median(one[5] / one[2] for one in rounds)
            yield (
                f"median of {len(rounds)}: images/s served {served:.1f}, bare encoder {encoded:.1f}: {ratio:.2f}; "
                f"processor ms an image: server {own:.1f}, its decoders {decoding:.1f}, clients {clients:.1f}; bare "
                f"encoder {alone:.1f}: {share:.2f} of the server"
            )


def latency(at: Setting) -> Iterator[str]:
    """Ask from one connection, one request after the other."""

    async def alone(place: Place) -> list[float]:
        reader, writer = await asyncio.open_connection(*place)
        seconds = []
        for _ in range(200):
            started = time.perf_counter()
            writer.write(recognition(at.files[0]))
            assert (await answer(reader))[0] == "200"
            seconds.append(time.perf_counter() - started)
        writer.close()
        return sorted(seconds)

    with serving(at.memory) as (place, _):
        one = statistics.median(bare(at.encoder, at.files[:1], 1, 1)[0] for _ in range(50))
        asyncio.run(alone(place))
        seconds = asyncio.run(alone(place))
        figures = statistics.median(seconds), seconds[197], one, 1.5 * one + 0.02
        shown = ", ".join(f"{1e3 * value:.0f}" for value in figures)
        yield f"ms: median, p99, one forward pass, 1.5 passes + 20 ms: {shown}"


def swaps(at: Setting) -> Iterator[str]:
    """Send requests while the memory is changed, then stop the server with requests in flight."""
    outcomes: Counter[str] = Counter()
    request, wanted = recognition(at.files[0]), at.options.requests
    stopped = False

    async def client(place: Place) -> None:
        while True:
            was_stopped = stopped
            try:
                reader, writer = await asyncio.open_connection(*place)
            except OSError:
                outcomes["not taken, after the stop" if was_stopped else "lost"] += 1
                return
            while True:
                was_stopped = stopped
                writer.write(request)
                status, _ = await answer(reader)
                outcomes[
                    f"status {status}" if status != CLOSED else "not taken, after the stop" if was_stopped else "lost"
                ] += 1
                if status == CLOSED:
                    break
            writer.close()

    async def all_of_it(place: Place, server: psutil.Process) -> None:
        nonlocal stopped
        clients = [asyncio.create_task(client(place)) for _ in range(8)]
        for number in range(5):
            await asyncio.sleep(1.5)
            changed = Memory.open(at.memory)
            await asyncio.to_thread(changed.add, [Category(f"thing {number}")], encoder=at.encoder)
        while outcomes["status 200"] < wanted - 8:
            await asyncio.sleep(0.01)
        stopped = True
        server.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)

    with serving(at.memory) as (place, server):
        asyncio.run(all_of_it(place, server))
    yield f"requests of 8 clients, 5 swaps, a stop: {shown_counts(outcomes)}"


@dataclass
class Watched:
    """What happens to a server and to a good client meanwhile."""

    place: Place
    server: psutil.Process
    request: bytes
    peak: int = 0
    slowest: float = 0.0
    good: Counter[str] = field(default_factory=Counter)

    async def look(self) -> None:
        while True:
            self.peak = max(self.peak, self.server.memory_info().rss)
            await asyncio.sleep(0.05)

    async def ask(self) -> None:
        while True:
            started = time.perf_counter()
            status, _ = await fresh(self.place, self.request)
            self.slowest = max(self.slowest, time.perf_counter() - started)
            self.good[status] += 1
            await asyncio.sleep(0.5)


async def harmed(
    at: Setting, what: str, harm: Callable[[Place], AsyncIterator[str]], place: Place, server: psutil.Process
) -> str:
    """Do harm while a good client asks; return what came of both."""
    request = recognition(at.files[0])
    for _ in range(8):
        await fresh(place, request)
    before, started = server.memory_info().rss, time.perf_counter()
    watched = Watched(place, server, request)
    watching = [asyncio.create_task(watched.look()), asyncio.create_task(watched.ask())]
    outcomes = Counter([status async for status in harm(place)])
    seconds = time.perf_counter() - started
    watching[0].cancel()
    watching[1].cancel()
    afterwards = [(await fresh(place, request))[0] for _ in range(4)]
    sizes = ", ".join(f"{size / 2**20:.0f}" for size in (before, watched.peak, server.memory_info().rss))
    return (
        f"{what}: {shown_counts(outcomes)}; {seconds:.1f} s; RSS before, peak, after: {sizes} MiB; good requests "
        f"meanwhile: {shown_counts(watched.good)}, slowest {watched.slowest:.2f} s; afterwards: "
        f"{shown_counts(Counter(afterwards))}"
    )


def harming(*harms: tuple[str, Callable[[Setting, Place], AsyncIterator[str]]]) -> Callable[[Setting], Iterator[str]]:
    """Return a part that does harms to a server, one after the other."""

    def part(at: Setting) -> Iterator[str]:
        with serving(at.memory) as (place, server):
            for what, harm in harms:
                yield asyncio.run(harmed(at, what, lambda place, harm=harm: harm(at, place), place, server))

    return part


def too_long(place: Place, kind: str, length: str) -> str:
    """Send a body that is too long, whatever the server says, and look for an answer at the end."""
    with socket.create_connection(place, timeout=60) as connection:
        with suppress(OSError):
            connection.sendall(head("POST", "/v1/recognize", f"content-type: {kind}", length))
            for number in range(HUGE):
                piece = (FORM_START if number == 0 and kind == FORM else b"") + b"x" * 2**20
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if "chunked" in length else piece)
        with suppress(OSError):
            return connection.recv(12)[9:].decode() or CLOSED
    return CLOSED


def bodies(kind: str, length: str) -> Callable[[Setting, Place], AsyncIterator[str]]:
    """Return what sends 8 huge bodies of a kind at a time."""

    async def send(_: Setting, place: Place) -> AsyncIterator[str]:
        sent = (asyncio.to_thread(too_long, place, kind, length) for _ in range(8))
        for status in await asyncio.gather(*sent):
            yield status

    return send


async def mutated(at: Setting, place: Place) -> AsyncIterator[str]:
    """Send photographs in which 20 bytes were changed."""
    rng = random.Random(0)
    requests = []
    for number in range(200):
        content = bytearray(at.files[number % len(at.files)])
        for _ in range(20):
            content[rng.randrange(len(content))] = rng.randrange(256)
        requests.append(recognition(bytes(content)))
    for start in range(0, len(requests), 8):
        some = requests[start : start + 8]
        for status, body in await asyncio.gather(*(fresh(place, request) for request in some)):
            assert b"Traceback" not in body
            yield f"{status} {'error' if b'E_' in body else 'ok'}"


async def wrong_tokens(at: Setting, place: Place) -> AsyncIterator[str]:
    """Send tokens that are wrong, nearly right, and none."""
    for token in [*map(str, range(47)), SECRET[:-1], SECRET + "0", ""]:
        status, body = await fresh(place, head("GET", "/v1/categories", token=token))
        assert b"Traceback" not in body
        yield status


def drips(count: int, header: bytes, drop: bytes) -> Callable[[Setting, Place], AsyncIterator[str]]:
    """Return what sends requests a byte in a second."""

    async def drip(place: Place) -> str:
        try:
            reader, writer = await asyncio.open_connection(*place)
            writer.write(header)
            reply = asyncio.create_task(answer(reader))
            while not (await asyncio.wait([reply], timeout=1))[0]:
                writer.write(drop)
            writer.close()
            return reply.result()[0]
        except OSError:
            return CLOSED

    async def send(_: Setting, place: Place) -> AsyncIterator[str]:
        for status in await asyncio.gather(*(drip(place) for _ in range(count))):
            yield status

    return send


async def connections(at: Setting, place: Place) -> AsyncIterator[str]:
    """Open connections that say nothing, and hold them for five seconds."""
    opened = []
    for _ in range(at.options.connections):
        with suppress(OSError):
            opened.append(await asyncio.open_connection(*place))
            yield "opened"
    await asyncio.sleep(5)
    for reader, writer in opened:
        yield "still open after 5 s" if not reader.at_eof() and reader.exception() is None else "closed by then"
        writer.close()


def shown_counts(outcomes: Counter[str]) -> str:
    return ", ".join(f"{number} × {what}" for what, number in outcomes.items())


_DRIPPING_JSON = head("POST", "/v1/recognize", f"content-type: {JSON}", "content-length: 999")
_DRIPPING_FORM = head("POST", "/v1/recognize", f"content-type: {FORM}", "content-length: 999") + FORM_START
PARTS: dict[str, Callable[[Setting], Iterator[str]]] = {
    "speed": speed,
    "latency": latency,
    "swaps": swaps,
    "bodies": harming(
        (f"8 bodies of {HUGE} MiB, JSON in chunks", bodies(JSON, "transfer-encoding: chunked")),
        (f"8 bodies of {HUGE} MiB, a form in chunks", bodies(FORM, "transfer-encoding: chunked")),
        (f"8 bodies of {HUGE} MiB that say so", bodies(FORM, f"content-length: {HUGE * 2**20}")),
    ),
    "images": harming(("200 mutated images, 8 at a time", mutated)),
    "tokens": harming(("50 wrong tokens", wrong_tokens)),
    "drips": harming(
        ("50 bodies of JSON that drip", drips(50, _DRIPPING_JSON, b" ")),
        ("50 forms that drip", drips(50, _DRIPPING_FORM, b"x")),
        ("50 headers that drip", drips(50, head("POST", "/v1/recognize")[:-2], b"x: y\r\n")),
    ),
    "connections": harming(("connections that say nothing", connections)),
}


def photographs(size_hw: tuple[int, int]) -> list[bytes]:
    """Return the demo's photographs as JPEG files of the size of a model input."""
    files = []
    for path in sorted((DATA / "photos").glob("*.jpg")):
        stream = io.BytesIO()
        Image.open(path).convert("RGB").resize(size_hw[::-1]).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def too_late(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--limit", type=float, default=180, help="seconds of a part")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    encoder = Encoder.load(device="cpu")
    files = photographs(encoder.input_size_hw)
    signal.signal(signal.SIGALRM, too_late)
    with tempfile.TemporaryDirectory() as name:
        memory = Path(name) / "memory"
        Memory.build(read_labels(DATA / "labels.json"), memory, encoder=encoder, templates=encoder.default_templates)
        for part in options.parts:
            signal.setitimer(signal.ITIMER_REAL, options.limit)
            try:
                for figure in PARTS[part](Setting(memory, encoder, files, options)):
                    print(f"{part}: {figure}", flush=True)
            except TimeoutError:
                print(f"{part}: not done after {options.limit:g} s", flush=True)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
