"""A folder of pictures and a label file: ours against a plain open_clip script and clip-retrieval's way.

usage: python tests/benchmarks/folder.py [--small 400] [--large 32] [--names 100] [--rounds 2]

Each way takes a label file and JPEGs and writes the five best names of each picture; then one name is edited and all is
done again. Small pictures are of 500 pixels, large ones of 12 megapixels, both the demo's photographs enlarged.

- The plain script encodes names and pictures at each run, with a DataLoader of a worker per core.
- clip-retrieval is not installed; its way is written by hand as its `inference` goes: vectors of all pictures in
  float16 in `img_emb_0.npy`, their paths in a Parquet file. Its query is the product of these with the vectors of the
  names. It does not notice a picture that has changed.
- Ours is `build` and `run` with stored features, which hold 50 regions of each picture, too, and are checked against
  the files. It scores pictures and regions, and writes the evidence.

All have their models loaded (start-up: `start_up.py`), the same random weights and the same number format. Each first
run has a folder of its own. The bound of a first run is bare decoding and encoding with all cores, without names; that
of a second run is the product of ready vectors, of pictures and regions, with those of the names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import numpy as np  # noqa: E402
import open_clip  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402

from memory import Category, Memory  # noqa: E402
from recognizer import Encoder, Recognizer  # noqa: E402
from recognizer.console import table  # noqa: E402
from recognizer.features import FeatureStore  # noqa: E402
from recognizer.images import Listing, list_images  # noqa: E402
from recognizer.settings import load_settings  # noqa: E402
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over, in_turns  # noqa: E402
from tests.benchmarks.features import run  # noqa: E402
from tests.benchmarks.open_clip_script import OpenClip  # noqa: E402
from tests.benchmarks.throughput import bare_seconds, make_photos  # noqa: E402

MODEL = "ViT-B-32"
BEST = 5
PLAIN, NPY = "plain open_clip script", "clip-retrieval's way"
Way = Callable[[Sequence[str], Path], None]
"""Names the pictures, with what an earlier call left in the folder."""


def ours(encoder: Encoder, listing: Listing) -> Way:
    """Build a memory and run over the pictures with stored features."""
    settings = load_settings()

    def way(names: Sequence[str], folder: Path) -> None:
        memory = Memory.build(
            [Category(name) for name in names], folder / "memory", encoder=encoder, templates=encoder.default_templates
        )
        with FeatureStore(folder / "features", encoder.card, settings.images, warn=print) as features:
            run(Recognizer(encoder, memory, settings=settings, features=features), listing, folder / "rows")

    return way


def plain_script(model: OpenClip, paths: Sequence[bytes], templates: Sequence[str]) -> Way:
    """Encode names and pictures, and write the best."""

    def way(names: Sequence[str], folder: Path) -> None:
        classifier = model.classifier(names, templates)
        write_best(folder, names, paths, (vectors @ classifier for vectors in model.vectors(paths)))

    return way


def embed_then_query(model: OpenClip, paths: Sequence[bytes], templates: Sequence[str]) -> Way:
    """Encode the pictures to a file of NumPy, if there is none, and query it."""

    def way(names: Sequence[str], folder: Path) -> None:
        file = folder / "img_emb_0.npy"
        if not file.is_file():
            np.save(file, torch.cat(list(model.vectors(paths))).numpy().astype(np.float16))
            pq.write_table(pa.table({"image_path": [os.fsdecode(path) for path in paths]}), folder / "metadata.parquet")
        query(model, names, templates, folder)

    return way


def query(model: OpenClip, names: Sequence[str], templates: Sequence[str], folder: Path) -> None:
    """Find the best names of pictures that were encoded to a file."""
    classifier = model.classifier(names, templates)
    vectors = torch.from_numpy(np.load(folder / "img_emb_0.npy").astype(np.float32))
    paths = pq.read_table(folder / "metadata.parquet")["image_path"].to_pylist()
    write_best(folder, names, [os.fsencode(path) for path in paths], iter([vectors @ classifier]))


def write_best(folder: Path, names: Sequence[str], paths: Sequence[bytes], products: Iterator[torch.Tensor]) -> None:
    """Write a line of JSON for each picture."""
    numbers = iter(paths)
    with (folder / "rows.jsonl").open("w") as file:
        for product in products:
            shares, best = (100 * product).softmax(dim=-1).topk(BEST)
            for row, columns in zip(shares.tolist(), best.tolist(), strict=True):
                found = [[names[column], share] for column, share in zip(columns, row, strict=True)]
                file.write(json.dumps({"path": os.fsdecode(next(numbers)), "names": found}) + "\n")


def product_of_ready_vectors(encoder: Encoder, listing: Listing, folder: Path) -> tuple[Callable[[], object], float]:
    """Return the product of all stored vectors with some of names, and the least cosine with clip-retrieval's file."""
    with FeatureStore(folder / "ours" / "features", encoder.card, load_settings().images, warn=print) as features:
        stored = [one.stored for one in features.look_up(list(listing))]
    images = np.stack([one.image for one in stored]).astype(np.float32)
    theirs = np.load(folder / NPY / "img_emb_0.npy").astype(np.float32)
    vectors = np.concatenate([images, *(one.regions.astype(np.float32) for one in stored)])
    texts = encoder.encode_texts([f"name {number}" for number in range(100)]).T
    return lambda: vectors @ texts, float((images * theirs).sum(axis=1).min())


def measure(what: str, encoder: Encoder, model: OpenClip, listing: Listing, names: list[str], rounds: int):
    """Return the comparisons of the first run and of the second."""
    paths, templates = [item.path for item in listing], list(encoder.default_templates)
    ways = {
        "ours": ours(encoder, listing),
        PLAIN: plain_script(model, paths, templates),
        NPY: embed_then_query(model, paths, templates),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder, runs = Path(scratch), dict.fromkeys(ways, 0)

        def place(name: str) -> Path:
            return folder / str(runs[name]) / name

        def first(name: str) -> None:
            runs[name] += 1
            place(name).mkdir(parents=True)
            ways[name](names, place(name))

        edits = iter(range(1_000_000))

        def second(name: str) -> None:
            ways[name]([*names[:-1], f"edited name {next(edits)}"], place(name))

        bare = [bare_seconds(encoder, listing[:64])]
        firsts = in_turns({name: lambda name=name: first(name) for name in ways}, rounds)
        bare.append(bare_seconds(encoder, listing[:64]))
        product, cosine = product_of_ready_vectors(encoder, listing, folder / str(runs["ours"]))
        seconds = in_turns({**{name: lambda name=name: second(name) for name in ways}, "bound": product}, rounds)
    decode, encode = (statistics.mean(column) for column in zip(*bare, strict=True))
    bound = len(listing) * (decode / (os.cpu_count() or 1) + encode)
    print(f"{what}: least cosine of our vectors with clip-retrieval's {cosine:.4f}")
    for title, times, limit, limit_is in (
        ("first run", firsts, bound, "bare decoding and encoding"),
        ("one name edited", seconds, seconds["bound"].wall, "product of ready vectors"),
    ):
        for peer in (PLAIN, NPY):
            yield Comparison(
                f"{what}, {title}", "s", times["ours"].wall, times[peer].wall, limit, peer_is=peer, bound_is=limit_is
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=400, help="how many small pictures")
    parser.add_argument("--large", type=int, default=32, help="how many of 12 megapixels")
    parser.add_argument("--names", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    add_json_option(parser)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    encoder = Encoder.load(MODEL, "random", device="cpu", precision=options.precision)
    model = OpenClip.load(MODEL, encoder.precision)
    names = list(open_clip.IMAGENET_CLASSNAMES[: options.names])
    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size, count, side in (("small", options.small, 500), ("12-megapixel", options.large, 4000)):
            listing = list_images([make_photos(Path(scratch) / size, count, side)])
            what = f"{count} {size} JPEGs, {options.names} names"
            comparisons += measure(what, encoder, model, listing, names, options.rounds)
    print(f"{MODEL}, {encoder.precision}, {os.cpu_count()} cores")
    print(
        table(
            ["work", "ours, s", "against", "its s", "times as fast", "bound, s"],
            [
                [
                    *(one.what, f"{one.ours:.2f}", one.peer_is, f"{one.peer:.2f}"),
                    *(f"{one.against(one.peer):.1f}", f"{one.bound:.3f}"),
                ]
                for one in comparisons
            ],
        )
    )
    hand_over(options.json, comparisons)


if __name__ == "__main__":
    main()
