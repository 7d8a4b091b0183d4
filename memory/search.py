"""What a memory is searched with: exact search, or approximate indexes that are stored beside the tables.

The folder ``index`` of a memory holds the approximate indexes and a card, INDEX.json. The card says which tables and
which fold they belong to; when it does not fit, or a hash is wrong, the indexes are built again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.durable import FileRecord, replacing, write_failure
from memory.flat.reader import stored_columns
from memory.index import ExactIndex, HnswIndex, SearchIndex, recall_at_k
from memory.integrity import damaged_files
from memory.manifest import IndexRecord, Manifest
from memory.sealed import seal, unseal
from memory.vectors import ROWS_AT_A_TIME, Matrix, MemoryVectors, mean_by_category

INDEX_FOLDER = "index"
_CARD_NAME = "INDEX.json"
_PARTS = ("categories", "descriptions")
# Recall is measured on this many queries at 10 rows each, so its standard error is below 0.01.
_SAMPLE_QUERIES = 256
# Length of the noise that is added to a unit row to make a query of it: a query is nearer to its row (cosine about
# 0.9) than an image is to its text, but not the row itself, which every graph finds.
_SAMPLE_NOISE = 0.5


@dataclass(frozen=True, slots=True)
class Fold:
    """How the name and the descriptions of a category become the one row that category search compares with.

    Attributes:
        name: weight of the name vector.
        description: weight of the mean of the grounded description vectors.
    """

    name: float = 0.5
    description: float = 0.5

    @property
    def key(self) -> str:
        """Names the fold in stored indexes; an index of another key has other rows."""
        return f"name={self.name:.6f} description={self.description:.6f}"

    def rows(self, vectors: MemoryVectors) -> Matrix:
        """Return the (C, D) float32 rows, which are not unit rows; the name stands in for missing descriptions."""
        rows = mean_by_category(vectors.grounded, vectors.offsets, vectors.names)
        for start in range(0, len(rows), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            rows[part] = self.name * vectors.names[part] + self.description * rows[part]
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class MemoryIndex:
    """What a memory is searched with.

    Attributes:
        categories: index over the (C, D) folded category vectors.
        descriptions: index over bare description vectors; a category without descriptions has its name vector there.
        description_categories: (R) int64 category row of each row of ``descriptions``.
        recall: recall@10 of each approximate index against exact search; empty for exact search.
    """

    categories: SearchIndex
    descriptions: SearchIndex
    description_categories: NDArray[np.int64]
    recall: Mapping[str, float]


def description_rows(vectors: MemoryVectors) -> tuple[Matrix, NDArray[np.int64]]:
    """Return the (R, D) rows of the description index and the (R) int64 category of each."""
    counts = np.diff(vectors.offsets)
    undescribed = np.flatnonzero(counts == 0)
    categories = np.concatenate((np.repeat(np.arange(len(counts)), counts), undescribed)).astype(np.int64)
    return np.concatenate((vectors.bare[:], vectors.names[undescribed])), categories


def exact_index(vectors: MemoryVectors, fold: Fold) -> MemoryIndex:
    """Return exact search over the vectors of a memory."""
    rows, categories = description_rows(vectors)
    return MemoryIndex(ExactIndex(fold.rows(vectors)), ExactIndex(rows), categories, {})


def build_hnsw(vectors: MemoryVectors, fold: Fold) -> MemoryIndex:
    """Build approximate search, and measure its recall on queries near the stored vectors."""
    rows, categories = description_rows(vectors)
    matrices = {"categories": fold.rows(vectors), "descriptions": rows}
    graphs = {part: HnswIndex.build(matrix) for part, matrix in matrices.items()}
    recall = {
        part: round(recall_at_k(graphs[part], ExactIndex(matrix), _sample_queries(matrix)), 4)
        for part, matrix in matrices.items()
    }
    return MemoryIndex(graphs["categories"], graphs["descriptions"], categories, recall)


def save_hnsw(directory: Path, index: MemoryIndex, manifest: Manifest, fold: Fold) -> None:
    """Write approximate indexes beside the tables they were built from; the card, which lists them, comes last."""
    folder = directory / INDEX_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise write_failure(folder, error) from error
    files = {}
    for part, graph in zip(_PARTS, (index.categories, index.descriptions), strict=True):
        if isinstance(graph, HnswIndex):
            files[part] = asdict(graph.save(folder / f"{part}.hnsw"))
    card = {**_identity(manifest, fold.key), "files": files, "recall": dict(index.recall)}
    with replacing(folder / _CARD_NAME) as draft:
        draft.write_bytes(seal(card))


def index_tables(directory: Path, manifest: Manifest, fold: Fold) -> tuple[Manifest, float]:
    """Build approximate indexes over tables that will be published; return the manifest with them and the recall."""
    vectors = stored_columns(directory, manifest).vectors()
    index = build_hnsw(vectors, fold)
    save_hnsw(directory, index, manifest, fold)
    record = IndexRecord("hnsw", fold.key, dict(index.recall))
    return replace(manifest, index=record), min(index.recall.values())


def load_hnsw(directory: Path, vectors: MemoryVectors, manifest: Manifest, fold: Fold) -> MemoryIndex | None:
    """Read approximate indexes; None when there are none for these tables and this fold, or a file is damaged.

    Args:
        directory: the memory.
        vectors: its vectors.
        manifest: its manifest.
        fold: of the category rows.
    """
    card = _read_card(directory)
    if card is None or not _belongs_to(card, manifest, fold.key):
        return None
    graphs = [
        HnswIndex.load(directory / INDEX_FOLDER / f"{part}.hnsw", FileRecord(**card["files"][part])) for part in _PARTS
    ]
    rows, categories = description_rows(vectors)
    if graphs[0] is None or graphs[1] is None or [g.size for g in graphs if g] != [len(vectors.names), len(rows)]:
        return None
    return MemoryIndex(graphs[0], graphs[1], categories, card["recall"])


def index_is_current(directory: Path, manifest: Manifest) -> bool:
    """Say whether the stored indexes belong to the tables of a manifest, with any fold, and have the right hashes."""
    card = _read_card(directory)
    if card is None or not _belongs_to(card, manifest, card["fold_key"]):
        return False
    records = {f"{INDEX_FOLDER}/{part}.hnsw": FileRecord(**card["files"][part]) for part in _PARTS}
    return not damaged_files(directory, records)


def _belongs_to(card: Mapping[str, Any], manifest: Manifest, fold_key: str) -> bool:
    return all(card[key] == value for key, value in _identity(manifest, fold_key).items())


def _identity(manifest: Manifest, fold_key: str) -> dict[str, Any]:
    return {"version": manifest.version, "tables": manifest.tables_digest(), "fold_key": fold_key}


def _read_card(directory: Path) -> dict[str, Any] | None:
    """Return the index card; None when there is none, or its hash is wrong."""
    try:
        return unseal((directory / INDEX_FOLDER / _CARD_NAME).read_bytes())
    except (OSError, ValueError):
        return None


def _sample_queries(matrix: Matrix) -> Matrix:
    """Return up to 256 unit queries (Q, D): stored rows with noise, the same for the same matrix."""
    generator = np.random.default_rng(0)
    rows = generator.permutation(len(matrix))[:_SAMPLE_QUERIES]
    noise = generator.standard_normal((len(rows), matrix.shape[1]), dtype=np.float32)
    queries = matrix[rows] + noise * (_SAMPLE_NOISE / np.sqrt(matrix.shape[1]))
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    unit: Matrix = (queries / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
