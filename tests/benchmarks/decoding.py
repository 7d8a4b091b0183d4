"""Decoding in worker processes against decoding in threads, in turns.

usage: python tests/benchmarks/decoding.py [--images 40] [--rounds 25] [--workers 0] [--encode]

Makes photographs of 1 to 2 megapixels (the demo's, enlarged) as JPEG and as PNG, and measures reading, decoding and
resizing to the model input, as the pipeline does it before a forward pass: `threads` do it in the process itself,
`workers` each have a process. The rounds of both alternate, so that what else the machine does meets both alike. The
ratio is the median over pairs of rounds; above 1, the workers are faster. On a busy machine the system may give the
sessions of the workers more of its cores than one process gets; the processor time of an image, in all processes
together, is then the figure to compare. With `--encode` the starter encodes the images meanwhile, as in a run.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import truediv
from pathlib import Path

import psutil
from PIL import Image

from recognizer import Encoder
from recognizer.console import table
from recognizer.demo import DATA
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.images import ImageError, ImageItem, ImageLimits, decode_image
from recognizer.images.worker import Task
from recognizer.images.workers import WorkerPool
from recognizer.pipeline import Decoded, decode, encode_ahead, encode_batch, in_batches, load

CLIP = Preprocessing((224, 224), "crop", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TASK = Task(ImageLimits(), CLIP.size_hw, CLIP.fit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--workers", type=int, default=0, help="threads or processes; 0: one per core")
    parser.add_argument("--encode", action="store_true")
    arguments = parser.parse_args()
    workers = arguments.workers or os.cpu_count() or 1
    encoder = Encoder.load() if arguments.encode else None

    rows = []
    pool = WorkerPool(workers)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as threads:
        for suffix in ("jpg", "png"):
            paths = make_photos(Path(folder), arguments.images, suffix)
            one_by_one = {"threads": prepare_here, "workers": partial(prepare_in_worker, pool)}
            ways = {name: partial(_all, threads, way) for name, way in one_by_one.items()}
            if encoder:
                ways = {name: partial(encode_all, encoder, name, workers) for name in one_by_one}
            for way in ways.values():  # files are in the page cache, and the workers are there
                way(paths)
            seconds, cpu_seconds = {name: [] for name in ways}, {name: [] for name in ways}
            for number in range(arguments.rounds):
                for name in sorted(ways, reverse=number % 2 == 1):
                    started, cpu_started = time.perf_counter(), cpu_time()
                    ways[name](paths)
                    seconds[name].append(time.perf_counter() - started)
                    cpu_seconds[name].append(cpu_time() - cpu_started)
            ratio = statistics.median(map(truediv, seconds["threads"], seconds["workers"]))
            speeds = [f"{len(paths) / statistics.median(seconds[name]):.0f}" for name in ways]
            costs = [f"{1000 * statistics.median(cpu_seconds[name]) / len(paths):.2f}" for name in ways]
            rows.append([suffix, *speeds, f"{ratio:.2f}", *costs])
    heads = ["format", *(f"{name}, images/s" for name in ways), "ratio", *(f"{name}, CPU ms an image" for name in ways)]
    print(table(heads, rows))


def cpu_time() -> float:
    """Processor time in seconds that this process and its workers have taken so far."""
    children = (child.cpu_times() for child in psutil.Process().children())
    return time.process_time() + sum(each.user + each.system for each in children)


def make_photos(folder: Path, count: int, suffix: str) -> list[Path]:
    """Write enlarged crops of the demo's photographs, each of its own size between 1 and 2 megapixels."""
    rng = random.Random(0)
    sources = [Image.open(path).convert("RGB") for path in sorted((DATA / "photos").glob("*.jpg"))]
    paths = []
    for number in range(count):
        source = sources[number % len(sources)]
        scale = (rng.uniform(1e6, 2e6) / (source.width * source.height)) ** 0.5
        size = round(source.width * scale), round(source.height * scale)
        paths.append(folder / f"{number:05}.{suffix}")
        source.resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=85, compress_level=1)
    return paths


def _all(threads: ThreadPoolExecutor, way: Callable[[Path], object], paths: Sequence[Path]) -> None:
    list(threads.map(way, paths))


def encode_all(encoder: Encoder, name: str, workers: int, paths: Sequence[Path]) -> None:
    """Decode images in threads or in workers, and encode them."""
    task = Task(ImageLimits(), encoder.input_size_hw, encoder.fit)

    def prepare(pool: WorkerPool, item: ImageItem) -> Decoded | ImageError:
        return (
            load(encoder, os.fsdecode(item.path), task.limits)
            if name == "threads"
            else decode(pool, encoder, item, task)
        )

    items = [ImageItem(path.name.encode(), str(path).encode()) for path in paths]
    for _ in encode_ahead(in_batches(items, 32), prepare, partial(encode_batch, encoder), workers):
        pass


def prepare_here(path: Path) -> object:
    """Decode and resize an image in this thread."""
    decoded = decode_image(path, target_size_hw=CLIP.size_hw)
    return CLIP.pixels(decoded.image, decoded.displayed_size_hw)


def prepare_in_worker(pool: WorkerPool, path: Path) -> object:
    """Have the same done by a worker."""
    image, _ = pool.decode_fitted(path, TASK)
    return CLIP.from_fitted(image)


if __name__ == "__main__":
    main()
