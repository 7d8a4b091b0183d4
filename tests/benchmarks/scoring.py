"""Exact scoring of large memories: seconds per image and peak memory; and search among proposals beside it.

usage: python tests/benchmarks/scoring.py [--categories 100000] [--descriptions 5] [--regions 50]
       python tests/benchmarks/scoring.py --index ivf [--categories 20000] [--descriptions 3] [--regions 5]

With `--index`, vectors are mapped in float16, as those of a memory, and search region by region through the index takes
turns with scoring everything and with the bare product of all vectors, in float32. Searches by hand, on vectors of
texts: `search.py`.

Vectors are made up: categories lie in 200 clusters, the descriptions of a category near its name, images and regions
near some category.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import tracemalloc
from dataclasses import asdict
from pathlib import Path

from recognizer.allocator import let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import numpy as np  # noqa: E402

from memory import Category  # noqa: E402
from memory.mapped import block_record  # noqa: E402
from memory.search import open_index  # noqa: E402
from memory.vectors import MemoryVectors  # noqa: E402
from recognizer.agreement import compare  # noqa: E402
from recognizer.approximate import ApproximateRetriever  # noqa: E402
from recognizer.console import table  # noqa: E402
from recognizer.encoder import ImageFeatures  # noqa: E402
from recognizer.retrieval import ExactRetriever, Retriever  # noqa: E402
from recognizer.score import Scorer  # noqa: E402
from recognizer.settings import ScoreSettings  # noqa: E402
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over, in_turns  # noqa: E402
from tests.benchmarks.search import BEST, DIM, OURS, TEMPERATURE, one_step, open_world  # noqa: E402

IMAGES = 8
BATCH = 32
"""Images of a search beside others: those that `run` scores at a time."""
ROUNDS = 3
CHUNK = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("categories", 100_000), ("descriptions", 5), ("regions", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--index", choices=OURS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.index:
        with tempfile.TemporaryDirectory() as scratch:
            world = (arguments.categories, arguments.descriptions, arguments.regions)
            hand_over(arguments.json, [search_beside_scoring(Path(scratch), arguments.index, *world)])
        return
    rng = np.random.default_rng(0)
    vectors = make_vectors(rng, arguments.categories, arguments.descriptions)
    features = make_features(rng, vectors, arguments.regions, IMAGES)
    scorer = Scorer(vectors, ScoreSettings())
    exact = ExactRetriever(scorer, temperature=0.05)
    seconds, peak = timed(exact, features)
    rows = [["exact", f"{seconds:.3f}", f"{peak:.0f}"]]
    size = sum(array.nbytes for array in (vectors.names, vectors.grounded, vectors.bare)) / 2**20
    print(f"{arguments.categories} categories x {arguments.descriptions} descriptions, {size:.0f} MiB of vectors")
    print(table(["search", "s/image", "peak memory above the vectors, MiB"], rows))


def search_beside_scoring(folder: Path, kind: str, categories: int, descriptions: int, regions: int) -> Comparison:
    write_world(folder, categories, descriptions, images=BATCH, regions=regions)
    one_step(folder, kind, "build")
    world = open_world(folder)
    scorer, features = world.scorer, world.features
    index = open_index(folder / kind, world.vectors, world.manifest, scorer.fold, kind)
    assert index is not None
    approximate = ApproximateRetriever(scorer, TEMPERATURE, index, depth=abs(index.depth))
    exact = ExactRetriever(scorer, TEMPERATURE)
    queries = np.concatenate([features.image, features.regions.reshape(-1, DIM)]).astype(np.float32)
    parts = (world.vectors.names, world.vectors.grounded, world.vectors.bare)
    rows = np.concatenate([np.asarray(part[:], np.float32) for part in parts]).T
    times = in_turns(
        {
            "search": lambda: approximate.retrieve(features, BEST),
            "everything": lambda: exact.retrieve(features, BEST),
            "product": lambda: queries @ rows,
        },
        ROUNDS,
    )
    agreement = compare(exact.retrieve(features, BEST), approximate.retrieve(features, BEST))
    milliseconds = {what: 1000 * one.wall / BATCH for what, one in times.items()}
    what = f"{categories:,} categories x {descriptions} descriptions, images with {regions} regions"
    print(f"{what}, batches of {BATCH}, {os.cpu_count()} cores")
    print(table([f"search ({kind})", "ms an image"], [[name, f"{value:.2f}"] for name, value in milliseconds.items()]))
    print(f"recall@{BEST} of the final ranking {agreement.ranking:.4f}, exact winners {agreement.winner:.4f}")
    return Comparison(
        f"region by region through {kind}, an image: {what}",
        "ms",
        *milliseconds.values(),
        peer_is="scoring everything (ours)",
        bound_is="bare product of all vectors",
    )


def write_world(folder: Path, categories: int, descriptions: int, *, images: int, regions: int) -> None:
    """Write made-up vectors and features as `open_world` of `search.py` reads them."""
    rng = np.random.default_rng(0)
    shapes = {"names": categories, "grounded": categories * descriptions, "bare": categories * descriptions}
    arrays = {name: np.memmap(folder / name, np.float16, "w+", shape=(rows, DIM)) for name, rows in shapes.items()}
    for start in range(0, categories, CHUNK):
        vectors = make_vectors(rng, min(CHUNK, categories - start), descriptions)
        for name, array in arrays.items():
            each = 1 if name == "names" else descriptions
            rows = getattr(vectors, name)
            array[start * each : start * each + len(rows)] = rows
    for array in arrays.values():
        array.flush()
    (folder / "records.json").write_text(json.dumps([asdict(block_record(folder, name)) for name in shapes]))
    features = make_features(rng, vectors, regions, images)
    weight = features.region_weight
    np.savez(folder / "features.npz", image=features.image, regions=features.regions, weight=weight)


def make_vectors(rng: np.random.Generator, categories: int, descriptions: int) -> MemoryVectors:
    centres = rng.normal(size=(200, DIM)).astype(np.float32)
    names = unit(centres[rng.integers(200, size=categories)] + near(rng, (categories, DIM), 1.0))
    owner = np.repeat(np.arange(categories), descriptions)
    nothing = np.zeros(0, np.float32)
    return MemoryVectors(
        categories=[Category(f"category {number}") for number in range(categories)],
        names=names,
        offsets=np.arange(categories + 1, dtype=np.int64) * descriptions,
        grounded=unit(names[owner] + near(rng, (len(owner), DIM), 0.03)),
        bare=unit(names[owner] + near(rng, (len(owner), DIM), 0.05)),
        descriptions=["" for _ in owner],
        exemplar_offsets=np.zeros(categories + 1, np.int64),
        exemplars=nothing.reshape(0, DIM),
        exemplar_hashes=[],
        exemplar_references=[],
    )


def make_features(rng: np.random.Generator, vectors: MemoryVectors, regions: int, images: int) -> ImageFeatures:
    shown = vectors.names[rng.integers(len(vectors.names), size=images)]
    return ImageFeatures(
        image=unit(shown + near(rng, shown.shape, 0.06)),
        regions=unit(shown[:, None] + near(rng, (images, regions, DIM), 0.1)),
        boxes_xyxy=np.zeros((images, regions, 4), np.float32),
        region_weight=np.ones((images, regions), np.float32),
        region_area=np.zeros((images, regions), np.float32),
    )


def near(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32) * np.float32(spread)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def timed(retriever: Retriever, features: ImageFeatures) -> tuple[float, float]:
    """Retrieve twice: once for the seconds per image, once for the peak of allocations in MiB."""
    started = time.perf_counter()
    retriever.retrieve(features, 5)
    seconds = (time.perf_counter() - started) / IMAGES
    tracemalloc.start()
    retriever.retrieve(features, 5)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return seconds, peak


if __name__ == "__main__":
    main()
