"""A second run over stored features, beside the run that encodes: python tests/benchmarks/features.py

The pictures are the demo's photographs, cut anew. Only some of them are encoded; the others are copies whose files end
in other bytes, so that their hashes and the rows that are read differ. Times are without start-up.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from PIL import Image

from memory import Category, Description, Memory
from memory.durable import file_sha256
from recognizer import Encoder, Recognizer
from recognizer.demo import DATA
from recognizer.features import FeatureStore, encode_or_read
from recognizer.features.stored_image import StoredImage
from recognizer.images import list_images
from recognizer.pipeline import encode_files, in_batches
from recognizer.results import open_results
from recognizer.run import recognize_into, run_setup

BATCH = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--encode", type=int, default=200, help="how many of them are encoded")
    parser.add_argument("--names", type=int, default=429)
    parser.add_argument("--descriptions", type=int, default=5)
    options = parser.parse_args()
    encoder = Encoder.load("starter", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), encoder, options)


def measure(folder, encoder, options):
    make_pictures(folder, options.encode, options.images)
    some, all_images = list_images([folder / "encoded"]), list_images([folder / "encoded", folder / "copies"])
    bare = make_memory(folder / "bare.memory", encoder, options.names, 0)
    first = Recognizer(encoder, bare)
    run(first, some[:BATCH], folder / "warm")
    first_rate = len(some) / run(first, some, folder / "first")
    with FeatureStore(folder / "features", encoder.card, first.settings.images, warn=print) as features:
        fill(encoder, features, some, folder / "copies")
    size = sum(path.stat().st_size for path in (folder / "features").rglob("*") if path.is_file())
    edited = make_memory(folder / "edited.memory", encoder, options.names, 0, suffix=" edited")
    described = make_memory(folder / "described.memory", encoder, options.names, options.descriptions)
    print(f"{'first run, encoding':50} {first_rate:8.1f} images/s")
    print(f"{'disk per image':50} {size / len(all_images) / 1000:8.1f} kB")
    for label, memory in (
        ("second run, edited memory", edited),
        (f"{options.descriptions} descriptions each", described),
    ):
        fresh = Recognizer(encoder, memory)
        run(fresh, some, folder / "fresh")
        with FeatureStore(folder / "features", encoder.card, fresh.settings.images, warn=print) as features:
            stored = Recognizer(encoder, memory, features=features)
            run(stored, some, folder / "again")
            assert (folder / "fresh.jsonl").read_bytes() == (folder / "again.jsonl").read_bytes()
            rate = len(all_images) / run(stored, all_images, folder / "second")  # pays for reading files anew
            rate = len(all_images) / run(stored, all_images, folder / "third")
            assert features.encoded == 0
        alone = scoring(fresh, some)
        print(f"{label:50} {rate:8.1f} images/s, {rate / first_rate:5.1f} x the first, same bytes as a fresh run")
        print(f"{'  scoring alone':50} {alone:8.1f} images/s; the run takes {alone / rate:.2f} x its time")


def make_pictures(folder, encoded, total):
    """Cut photographs into `encoded` pictures, and copy them under other hashes until there are `total`."""
    (folder / "encoded").mkdir()
    (folder / "copies").mkdir()
    rng = random.Random(0)
    photographs = [Image.open(path).convert("RGB") for path in sorted((DATA / "photos").glob("*.jpg"))]
    for number in range(encoded):
        photograph = rng.choice(photographs)
        x, y = (rng.uniform(0, 0.4) * side for side in photograph.size)
        cut = photograph.crop((int(x), int(y), int(x + 0.6 * photograph.width), int(y + 0.6 * photograph.height)))
        cut.resize((1200, 900)).save(folder / "encoded" / f"{number:05}.jpg", quality=85)
    for number in range(encoded, total):
        data = (folder / "encoded" / f"{number % encoded:05}.jpg").read_bytes()
        (folder / "copies" / f"{number:05}.jpg").write_bytes(data + str(number).encode())


def make_memory(directory, encoder, names, descriptions, suffix=""):
    rng = random.Random(1)
    things = json.loads((DATA / "labels.json").read_text())
    words = sorted({word for name in things for word in name.split()})
    categories = [
        Category(
            f"{rng.choice(words)} {number}{suffix if number == 0 else ''}",
            descriptions=tuple(
                Description(f"{rng.choice(words)} and {rng.choice(words)} {j}") for j in range(descriptions)
            ),
        )
        for number in range(names)
    ]
    return Memory.build(categories, directory, encoder=encoder, templates=["a photo of a {}"])


def fill(encoder, features, listing, copies):
    by_name = {}
    for batch in encode_or_read(encoder, in_batches(listing, BATCH), features=features):
        for row, position in enumerate(batch.positions):
            by_name[batch.items[position].key] = (batch.features.take(row), batch.sizes_hw[row])
    for path in sorted(copies.iterdir()):
        image, size_hw = by_name[f"{int(path.stem) % len(listing):05}.jpg"]
        features.table.add([StoredImage.of(image, 0, sha256=file_sha256(path), size_hw=size_hw)])


def run(recognizer, listing, output):
    """Recognise images into a file; returns seconds."""
    keys = [item.key for item in listing]
    setup = run_setup(
        recognizer.memory, recognizer.settings, list_images([DATA / "photos"]), device="cpu", precision="fp32"
    )
    started = time.perf_counter()
    with open_results(output.with_suffix(".jsonl"), keys=keys, setup=setup, overwrite=True) as sink:
        for _ in recognize_into(recognizer, listing, sink):
            pass
        sink.finish()
    return time.perf_counter() - started


def scoring(recognizer, listing):
    """Return images/s of finding the candidates alone, from features in memory."""
    batches = [batch.features for batch in encode_files(recognizer.encoder, in_batches(listing, BATCH))]
    k = recognizer.settings.run.top_k
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for features in batches:
            recognizer.retriever.retrieve(features, k)
        best = min(best, time.perf_counter() - started)
    return len(listing) / best


if __name__ == "__main__":
    main()
