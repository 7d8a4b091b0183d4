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

import psutil
import torch
from PIL import Image

from memory import Memory, read_labels
from recognizer import Encoder, Recognizer
from recognizer.allocator import keep_freed_memory
from recognizer.console import table
from recognizer.demo import DATA
from recognizer.images import ImageLimits, decode_image, list_images
from recognizer.pipeline import in_batches
from recognizer.results import open_results
from recognizer.run import recognize_into, run_setup


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
    """Seconds per image of the loop a user would write; the pool of workers is started before the clock."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(name, precision=precision, device=device)
    dtype = open_clip.get_input_dtype(precision)
    model.eval()

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, number: int) -> torch.Tensor:
            return transform(Image.open(os.fsdecode(items[number].path)).convert("RGB"))

    loader = torch.utils.data.DataLoader(Photos(), batch_size=32, num_workers=os.cpu_count() or 1)
    seen, started = 0, 0.0
    for batch in loader:
        started = started or time.perf_counter()
        with torch.no_grad():
            features = model.encode_image(batch.to(device, dtype))
            features / features.norm(dim=-1, keepdim=True)
        seen += len(batch)
    return (time.perf_counter() - started) / seen


if __name__ == "__main__":
    main()
