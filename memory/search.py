"""The hot copy for search: the indexes over a memory's vectors, kept on disk as long as they fit the tables.

It lies in the folder ``index`` of a memory, says itself to which tables and which folding it belongs, and is built
again whenever that, or a hash, does not fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.durable import FileRecord, write_atomically
from memory.index import ExactIndex, HnswIndex, SearchIndex, recall_at_k
from memory.integrity import damaged_files
from memory.manifest import Manifest
from memory.vectors import Matrix, MemoryVectors, mean_by_category

INDEX_FOLDER = "index"
_CARD_NAME = "INDEX.json"
_PARTS = ("categories", "descriptions")
_SAMPLE_QUERIES = 256
_SAMPLE_NOISE = 0.5

Fold = Callable[[MemoryVectors], Matrix]
"""Gives the (C, D) float32 rows, one for each category, that category search compares with; not unit rows."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryIndex:
    """What a memory is searched with.

    Attributes:
        categories: index over the (C, D) folded category vectors.
        descriptions: index over bare description vectors; a category without descriptions has its name vector there.
        description_categories: (R) int64 row of the category that each row of ``descriptions`` belongs to.
        recall: recall@10 of each approximate index against exact search; empty for exact search.
    """

    categories: SearchIndex
    descriptions: SearchIndex
    description_categories: NDArray[np.int64]
    recall: Mapping[str, float]


def equal_fold(vectors: MemoryVectors) -> Matrix:
    """Fold names and the means of grounded descriptions at equal weights; the name stands in for no descriptions."""
    means = mean_by_category(vectors.grounded, vectors.offsets, vectors.names)
    return 0.5 * vectors.names + 0.5 * means


def description_rows(vectors: MemoryVectors) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the (R, D) rows of the description index and the (R) int64 category of each."""
    counts = np.diff(vectors.offsets)
    silent = np.flatnonzero(counts == 0)
    owners = np.concatenate((np.repeat(np.arange(len(counts)), counts), silent)).astype(np.int64)
    return np.concatenate((vectors.bare, vectors.names[silent])), owners


def exact_index(vectors: MemoryVectors, fold: Fold) -> MemoryIndex:
    """Return exact search over a memory's vectors."""
    rows, owners = description_rows(vectors)
    return MemoryIndex(ExactIndex(fold(vectors)), ExactIndex(rows), owners, {})


def build_hnsw(vectors: MemoryVectors, fold: Fold) -> MemoryIndex:
    """Build approximate search and measure its recall on queries near the stored vectors."""
    rows, owners = description_rows(vectors)
    matrices = {"categories": fold(vectors), "descriptions": rows}
    built = {part: HnswIndex.build(matrix) for part, matrix in matrices.items()}
    recall = {
        part: round(recall_at_k(built[part], ExactIndex(matrix), _sample_queries(matrix)), 4)
        for part, matrix in matrices.items()
    }
    return MemoryIndex(built["categories"], built["descriptions"], owners, recall)


def save_hnsw(directory: Path, index: MemoryIndex, manifest: Manifest, fold_key: str) -> None:
    """Write an approximate index beside the tables it was built from; the card goes last."""
    folder = directory / INDEX_FOLDER
    folder.mkdir(exist_ok=True)
    files = {}
    for part, graph in zip(_PARTS, (index.categories, index.descriptions), strict=True):
        if isinstance(graph, HnswIndex):
            files[part] = asdict(graph.save(folder / f"{part}.hnsw"))
    card = {**_identity(manifest, fold_key), "files": files, "recall": dict(index.recall)}
    write_atomically(folder / _CARD_NAME, _sealed(card))


def load_hnsw(directory: Path, vectors: MemoryVectors, manifest: Manifest, fold_key: str | None) -> MemoryIndex | None:
    """Read the approximate index; None when there is none for these tables and this folding, or a file is damaged.

    Args:
        directory: the memory.
        vectors: its vectors.
        manifest: its manifest.
        fold_key: the folding wanted; None takes whichever there is.
    """
    card = _read_card(directory)
    if card is None or not _fits(card, manifest, fold_key):
        return None
    graphs = [
        HnswIndex.load(directory / INDEX_FOLDER / f"{part}.hnsw", FileRecord(**card["files"][part])) for part in _PARTS
    ]
    rows, owners = description_rows(vectors)
    if graphs[0] is None or graphs[1] is None or [g.size for g in graphs if g] != [len(vectors.names), len(rows)]:
        return None
    return MemoryIndex(graphs[0], graphs[1], owners, card["recall"])


def index_is_current(directory: Path, manifest: Manifest) -> bool:
    """Say whether the approximate index on disk belongs to a manifest's tables and has the recorded hashes."""
    card = _read_card(directory)
    if card is None or not _fits(card, manifest, None):
        return False
    records = {f"{INDEX_FOLDER}/{part}.hnsw": FileRecord(**card["files"][part]) for part in _PARTS}
    return not damaged_files(directory, records)


def _fits(card: Mapping[str, Any], manifest: Manifest, fold_key: str | None) -> bool:
    """Say whether an index card belongs to the tables of a manifest and to a folding (None: to any)."""
    wanted = _identity(manifest, card["fold_key"] if fold_key is None else fold_key)
    return all(card[key] == value for key, value in wanted.items())


def _identity(manifest: Manifest, fold_key: str) -> dict[str, Any]:
    return {"version": manifest.version, "tables": manifest.tables_digest(), "fold_key": fold_key}


def _read_card(directory: Path) -> dict[str, Any] | None:
    try:
        data = (directory / INDEX_FOLDER / _CARD_NAME).read_bytes()
        card = dict(json.loads(data))
        card.pop("sha256")
        return card if _sealed(card) == data else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sealed(card: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
    return json.dumps({**card, "sha256": digest}, sort_keys=True).encode()


def _sample_queries(matrix: Matrix) -> Matrix:
    """Return up to 256 unit queries (Q, D): stored rows with noise, the same for the same matrix."""
    generator = np.random.default_rng(0)
    rows = generator.permutation(len(matrix))[:_SAMPLE_QUERIES]
    noise = generator.standard_normal((len(rows), matrix.shape[1]), dtype=np.float32)
    queries = matrix[rows] + noise * (_SAMPLE_NOISE / np.sqrt(matrix.shape[1]))
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    unit: Matrix = (queries / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
