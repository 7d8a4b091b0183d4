"""Images per second of `recognizer run`, against its own parts and against a script around open_clip.

usage: python tests/benchmarks/throughput.py [--images 1000] [--model ViT-B-32 --pretrained random] [--side 1280]

Makes photographs (the demo's, enlarged, JPEG), then measures in one process, side by side:
decode (bare, one thread), encode (bare, all threads), the run of the pipeline with scoring and writing, and, for
open_clip models, the loop a user would write: batches of 32, a DataLoader with a worker per core, the model's own
transform, in the same precision. `bound` is 1 / (decode / cores + encode): what the machine could do if decoding and
encoding shared its cores perfectly. Memory is the resident set before and after the run.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import psutil  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from memory import Memory, read_labels  # noqa: E402
from recognizer import Encoder, Recognizer  # noqa: E402
from recognizer.console import table  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from recognizer.images import ImageLimits, decode_image, list_images  # noqa: E402
from recognizer.pipeline import in_batches  # noqa: E402
from recognizer.results import open_results  # noqa: E402
from recognizer.run import recognize_into, run_setup  # noqa: E402
from tests.benchmarks.open_clip_script import OpenClip  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1280, help="longer side of the photographs in pixels")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--pretrained")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--loop-images", type=int, default=128, help="images for the open_clip loop; 0 leaves it out")
    arguments = parser.parse_args()

    keep_freed_memory()  # as the command does
    encoder = Encoder.load(arguments.model, arguments.pretrained, precision=arguments.precision)
    with tempfile.TemporaryDirectory() as folder:
        photos = make_photos(Path(folder) / "photos", arguments.images, arguments.side)
        listing = list_images([photos])
        memory = Memory.build(
            read_labels(DATA / "labels.json"), f"{folder}/memory", encoder=encoder, templates=encoder.default_templates
        )
        recognizer = Recognizer(encoder, memory)
        decode, encode = bare_seconds(encoder, listing[:192])
        resident = psutil.Process().memory_info().rss
        started = time.perf_counter()
        setup = run_setup(recognizer.memory, recognizer.settings, listing, device="auto", precision=arguments.precision)
        with open_results(f"{folder}/results.jsonl", keys=listing.keys, setup=setup) as sink:
            for _ in recognize_into(recognizer, listing, sink):
                pass
            sink.finish()
        run = (time.perf_counter() - started) / len(listing)
        grown = (psutil.Process().memory_info().rss - resident) / 2**20
        after = bare_seconds(encoder, listing[:192])
        decode, encode = (decode + after[0]) / 2, (encode + after[1]) / 2
        loop = None
        if arguments.model != "starter" and arguments.loop_images:
            loop = open_clip_loop(arguments.model, encoder.precision, encoder.device, listing[: arguments.loop_images])

    cores = os.cpu_count() or 1
    bound = 1 / (decode / cores + encode)
    rows = [
        ["decode, one thread", f"{1 / decode:.1f}", ""],
        ["encode, all threads", f"{1 / encode:.1f}", ""],
        ["bound", f"{bound:.1f}", ""],
        [
            "run",
            f"{1 / run:.1f}",
            f"{1 / run / bound:.2f} of the bound; memory {grown:+.0f} MiB over {len(listing)} images",
        ],
    ]
    if loop:
        rows.append(
            [f"open_clip loop, {encoder.precision}", f"{1 / loop:.1f}", f"the run is {loop / run:.1f} times as fast"]
        )
    print(f"{encoder.card.name}, {encoder.precision}, {cores} cores, photographs of {arguments.side} px")
    print(table(["what", "images/s", ""], rows, widest=90))


def make_photos(folder: Path, count: int, side: int) -> Path:
    """Write enlarged crops of the demo's photographs."""
    folder.mkdir()
    rng = random.Random(0)
    sources = [Image.open(path).convert("RGB") for path in sorted((DATA / "photos").glob("*.jpg"))]
    variants = []
    for number in range(min(count, 24)):
        source = sources[number % len(sources)]
        left, top = rng.randint(0, source.width // 4), rng.randint(0, source.height // 4)
        crop = source.crop((left, top, source.width, source.height))
        variants.append(crop.resize((side, round(side * crop.height / crop.width)), Image.Resampling.BICUBIC))
    for number in range(count):
        variants[number % len(variants)].save(folder / f"{number:05}.jpg", quality=85)
    return folder


def bare_seconds(encoder: Encoder, items) -> tuple[float, float]:
    """Seconds per image of decoding with preprocessing in one thread, and of encoding with all threads."""
    started = time.perf_counter()
    prepared = []
    for item in items:
        decoded = decode_image(item.path, limits=ImageLimits(), target_size_hw=encoder.input_size_hw)
        prepared.append(encoder.preprocess(decoded.image, decoded.displayed_size_hw))
    decode = (time.perf_counter() - started) / len(items)
    batches = [
        (torch.stack([pixels for pixels, _ in batch]), [frame for _, frame in batch])
        for _, batch in in_batches(prepared, 32)
    ]
    encoder.encode_pixels(*batches[0])
    started = time.perf_counter()
    for pixels, frames in batches:
        encoder.encode_pixels(pixels, frames)
    return decode, (time.perf_counter() - started) / len(items)


def open_clip_loop(name: str, precision: str, device: torch.device, items) -> float:
    """Seconds per image of the loop a user would write, after the first batch: workers are started by then."""
    seen, started = 0, 0.0
    for vectors in OpenClip.load(name, precision, device).vectors([item.path for item in items]):
        if started:
            seen += len(vectors)
        started = started or time.perf_counter()
    return (time.perf_counter() - started) / seen


if __name__ == "__main__":
    main()
