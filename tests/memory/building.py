"""Memories of a few categories, made by a fake encoder."""

import io

import numpy as np

from memory import ExemplarSet, Memory

TEMPLATES = ("a photo of a {}.", "{c}")


def build(categories, directory, encoder, **options):
    return Memory.build(categories, directory, encoder=encoder, templates=TEMPLATES, **options)


def stored(vectors):
    """As a memory stores them: rounded to fp16."""
    return np.asarray(vectors, np.float16).astype(np.float32)


def exported(memory, *, vectors=True):
    stream = io.StringIO()
    memory.export(stream, vectors=vectors)
    return stream.getvalue()


def exemplar_set(categories, count, seed=0):
    rows = np.random.default_rng(seed).standard_normal((len(categories) * count, 16)).astype(np.float32)
    ids = [category.id for category in categories for _ in range(count)]
    names = [f"{seed}/{i}.jpg" for i in range(len(ids))]
    return ExemplarSet(ids, names, [f"{i:064x}" for i in range(len(ids))], rows / np.linalg.norm(rows, axis=1)[:, None])
