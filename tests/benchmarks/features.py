"""A second run over stored features, beside the run that encodes: python tests/benchmarks/features.py

The pictures are the demo's photographs, cut anew. Only some of them are encoded; the others are copies whose files end
in other bytes, so that their hashes and the rows that are read differ. Times are without start-up.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

from PIL import Image  # noqa: E402

from memory import Category, Description, Memory  # noqa: E402
from memory.durable import file_sha256  # noqa: E402
from recognizer import Encoder, Recognizer  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from recognizer.features import FeatureStore, encode_or_read  # noqa: E402
from recognizer.features.stored_image import StoredImage  # noqa: E402
from recognizer.images import list_images  # noqa: E402
from recognizer.pipeline import in_batches  # noqa: E402
from recognizer.results import open_results  # noqa: E402
from recognizer.run import recognize_into, run_setup  # noqa: E402

BATCH = 32
ROUNDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--encode", type=int, default=200, help="how many of them are encoded")
    parser.add_argument("--names", type=int, default=429)
    parser.add_argument("--descriptions", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    encoder = Encoder.load("starter", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), encoder, options)


def measure(folder, encoder, options):
    make_pictures(folder, options.encode, options.images)
    some, all_images = list_images([folder / "encoded"]), list_images([folder / "encoded", folder / "copies"])
    bare = make_memory(folder / "bare.memory", encoder, options.names, 0)
    first = Recognizer(encoder, bare)
    run(first, some[:BATCH], folder / "warm")
    with FeatureStore(folder / "features", encoder.card, first.settings.images, warn=print) as features:
        encoded = fill(encoder, features, some, folder / "copies")
    size = sum(path.stat().st_size for path in (folder / "features").rglob("*") if path.is_file())
    edited = make_memory(folder / "edited.memory", encoder, options.names, 0, suffix=" edited")
    described = make_memory(folder / "described.memory", encoder, options.names, options.descriptions)
    print(f"{size / len(all_images) / 1000:.0f} kB of disk per image")
    for label, memory in (("edited memory", edited), (f"{options.descriptions} descriptions each", described)):
        fresh = Recognizer(encoder, memory)
        with FeatureStore(folder / "features", encoder.card, fresh.settings.images, warn=print) as features:
            stored = Recognizer(encoder, memory, features=features)
            run(stored, all_images, folder / "hashing")
            rounds = []
            for _ in range(ROUNDS):  # interleaved, as other programs share the machine
                first = len(some) / run(fresh, some, folder / "fresh")
                second = len(all_images) / run(stored, all_images, folder / "stored")
                rounds.append((first, second, scoring(fresh, encoded)))
            run(stored, some, folder / "stored")
            assert (folder / "fresh.jsonl").read_bytes() == (folder / "stored.jsonl").read_bytes()
            assert features.encoded == 0
        first, second, alone = map(statistics.median, zip(*rounds, strict=True))
        print(
            f"{label}: images/s of the first run {first:.1f}, of the second {second:.1f}, of scoring alone {alone:.1f}"
        )
        print(
            f"  the second run is {statistics.median(b / a for a, b, _ in rounds):.1f} times as fast as the first, and "
            f"takes {statistics.median(c / b for _, b, c in rounds):.2f} times as long as scoring alone"
        )


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
    """Store the features of all pictures; returns those of the ones that are encoded, in batches."""
    by_name = {}
    batches = list(encode_or_read(encoder, in_batches(listing, BATCH), features=features))
    for batch in batches:
        for row, position in enumerate(batch.positions):
            by_name[batch.items[position].key] = (batch.features.take(row), batch.sizes_hw[row])
    for path in sorted(copies.iterdir()):
        image, size_hw = by_name[f"{int(path.stem) % len(listing):05}.jpg"]
        features.table.add([StoredImage.of(image, 0, sha256=file_sha256(path), size_hw=size_hw)])
    return [batch.features for batch in batches]


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


def scoring(recognizer, batches):
    """Return images/s of finding the candidates, from features in memory."""
    started = time.perf_counter()
    for features in batches:
        recognizer.retriever.retrieve(features, recognizer.settings.run.top_k)
    return sum(map(len, batches)) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
