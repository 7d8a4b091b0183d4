"""Exact scoring of large memories: seconds per image and peak memory. Approximate search: `search.py`.

usage: python tests/benchmarks/scoring.py [--categories 100000] [--descriptions 5] [--dim 512] [--regions 50]

Vectors are made up: categories lie in 200 clusters, the descriptions of a category near its name, images and regions
near some category.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

import numpy as np

from memory import Category
from memory.vectors import MemoryVectors
from recognizer.console import table
from recognizer.encoder import ImageFeatures
from recognizer.retrieval import ExactRetriever, Retriever
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings

IMAGES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("categories", 100_000), ("descriptions", 5), ("dim", 512), ("regions", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = make_vectors(rng, arguments.categories, arguments.descriptions, arguments.dim)
    features = make_features(rng, vectors, arguments.regions)
    scorer = Scorer(vectors, ScoreSettings())
    exact = ExactRetriever(scorer, temperature=0.05)
    seconds, peak = timed(exact, features)
    rows = [["exact", f"{seconds:.3f}", f"{peak:.0f}"]]
    size = sum(array.nbytes for array in (vectors.names, vectors.grounded, vectors.bare)) / 2**20
    print(f"{arguments.categories} categories x {arguments.descriptions} descriptions, {size:.0f} MiB of vectors")
    print(table(["search", "s/image", "peak memory above the vectors, MiB"], rows))


def make_vectors(rng: np.random.Generator, categories: int, descriptions: int, dim: int) -> MemoryVectors:
    centres = rng.normal(size=(200, dim)).astype(np.float32)
    names = unit(centres[rng.integers(200, size=categories)] + near(rng, (categories, dim), 1.0))
    owner = np.repeat(np.arange(categories), descriptions)
    nothing = np.zeros(0, np.float32)
    return MemoryVectors(
        categories=[Category(f"category {number}") for number in range(categories)],
        names=names,
        offsets=np.arange(categories + 1, dtype=np.int64) * descriptions,
        grounded=unit(names[owner] + near(rng, (len(owner), dim), 0.03)),
        bare=unit(names[owner] + near(rng, (len(owner), dim), 0.05)),
        descriptions=["" for _ in owner],
        exemplar_offsets=np.zeros(categories + 1, np.int64),
        exemplars=nothing.reshape(0, dim),
        exemplar_hashes=[],
        exemplar_references=[],
    )


def make_features(rng: np.random.Generator, vectors: MemoryVectors, regions: int) -> ImageFeatures:
    dim = vectors.names.shape[1]
    shown = vectors.names[rng.integers(len(vectors.names), size=IMAGES)]
    return ImageFeatures(
        image=unit(shown + near(rng, shown.shape, 0.06)),
        regions=unit(shown[:, None] + near(rng, (IMAGES, regions, dim), 0.1)),
        boxes_xyxy=np.zeros((IMAGES, regions, 4), np.float32),
        region_weight=np.ones((IMAGES, regions), np.float32),
        region_area=np.zeros((IMAGES, regions), np.float32),
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
