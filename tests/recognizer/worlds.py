"""Small made-up memories and image features for tests of the score."""

import numpy as np

from memory import Category, Description
from memory.vectors import MemoryVectors
from recognizer.encoder import ImageFeatures


def unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def make_vectors(rng, description_counts, exemplar_counts=None, dim=8):
    """A memory whose category c has description_counts[c] descriptions and exemplar_counts[c] exemplars."""
    exemplar_counts = exemplar_counts or [0] * len(description_counts)
    categories = [
        Category(f"name {c}", descriptions=tuple(Description(f"text {c} {j}") for j in range(count)))
        for c, count in enumerate(description_counts)
    ]
    total, examples = sum(description_counts), sum(exemplar_counts)
    return MemoryVectors(
        categories=categories,
        names=unit(rng, len(categories), dim),
        offsets=np.r_[0, np.cumsum(description_counts)].astype(np.int64),
        grounded=unit(rng, total, dim),
        bare=unit(rng, total, dim),
        descriptions=[d.text for category in categories for d in category.descriptions],
        exemplar_offsets=np.r_[0, np.cumsum(exemplar_counts)].astype(np.int64),
        exemplars=unit(rng, examples, dim),
        exemplar_hashes=[f"hash {k}" for k in range(examples)],
        exemplar_references=[f"photo {k}" for k in range(examples)],
    )


def make_features(rng, images=3, regions=4, dim=8):
    """Features with random region weights; the last image has no region above any positive threshold."""
    weight = rng.uniform(size=(images, regions)).astype(np.float32)
    weight[-1] = 0
    corner = rng.uniform(0, 50, size=(images, regions, 2))
    return ImageFeatures(
        image=unit(rng, images, dim),
        regions=unit(rng, images, regions, dim),
        boxes_xyxy=np.concatenate([corner, corner + 10], axis=2).astype(np.float32),
        region_weight=weight,
        region_area=np.full((images, regions), 100 / 60**2, np.float32),
    )
