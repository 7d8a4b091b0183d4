"""The index that a memory uses: the stored one, a new one, or none where it would not find enough."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from memory.durable import WriterLock
from memory.errors import MemoryLocked, MemoryStoreError
from memory.manifest import IndexRecord, Manifest, read_manifest, write_manifest
from memory.search.fold import Fold
from memory.search.proposals import MemoryIndex, exact_index
from memory.search.stored import INDEX_FOLDER, make_index, open_index, store_figures, write_index
from memory.search.tuning import ASKED_RECALL
from memory.vectors import MemoryVectors


def current_index(directory: Path, vectors: MemoryVectors, manifest: Manifest, fold: Fold) -> MemoryIndex | None:
    """Return exact search, or the stored index; None where it has to be built."""
    if manifest.index.kind == "exact":
        return exact_index(vectors, fold)
    return open_index(directory, vectors, manifest, fold, manifest.index.kind)


def settle_index(
    directory: Path, vectors: MemoryVectors, manifest: Manifest, fold: Fold, *, anew: bool = False
) -> tuple[Manifest, float]:
    """Publish the recall of the stored index, built where it has to be, or refuse it; only under the writer lock.

    Args:
        directory: the memory.
        vectors: its vectors.
        manifest: the published one, of an approximate kind.
        fold: of the rows.
        anew: build it in any case.

    Returns:
        The published manifest, whose index is exact where the index finds less than asked, and the recall.
    """
    if anew:
        shutil.rmtree(directory / INDEX_FOLDER, ignore_errors=True)
    kind = manifest.index.kind
    index = open_index(directory, vectors, manifest, fold, kind)
    if index is None:
        index = write_index(directory, vectors, manifest, fold, kind)
    recall = index.figures["search"]
    record = IndexRecord(kind, fold.key, dict(index.figures))
    if recall < ASKED_RECALL:
        record = IndexRecord()
        shutil.rmtree(directory / INDEX_FOLDER, ignore_errors=True)
    settled = replace(manifest, index=record)
    write_manifest(directory, settled)
    return settled, recall


def used_index(
    directory: Path, vectors: MemoryVectors, manifest: Manifest, fold: Fold, *, anew: bool
) -> tuple[MemoryIndex, Manifest]:
    """Return what a memory is searched with, and its manifest; see ``Memory.index``.

    Args:
        directory: the memory.
        vectors: its vectors.
        manifest: its manifest.
        fold: of the rows.
        anew: build the index in any case.
    """
    kind = manifest.index.kind
    index = None if anew else current_index(directory, vectors, manifest, fold)
    if index is not None:
        return index, manifest
    with contextlib.suppress(OSError, MemoryLocked, MemoryStoreError), WriterLock(directory, wait_seconds=0.0):
        current = read_manifest(directory)
        if current.tables_digest() == manifest.tables_digest():
            manifest, _ = settle_index(directory, vectors, current, fold, anew=anew)
            index = current_index(directory, vectors, manifest, fold)
    if index is None:  # another process writes, or this one may not
        with tempfile.TemporaryDirectory(prefix="memory-index-") as folder:
            index, _ = make_index(vectors, fold, kind, Path(folder) / "rows")
    finds_enough = index.figures.get("search", 1.0) >= ASKED_RECALL
    return (index if finds_enough else exact_index(vectors, fold)), manifest


def publish_figures(directory: Path, manifest: Manifest, index: MemoryIndex) -> Manifest:
    """Store what the user of an index measured, where that is possible; return the manifest with it."""
    record = IndexRecord(manifest.index.kind, index.fold.key, dict(index.figures))
    with contextlib.suppress(OSError, MemoryLocked, MemoryStoreError), WriterLock(directory, wait_seconds=0.0):
        current = read_manifest(directory)
        if current.tables_digest() == manifest.tables_digest():
            store_figures(directory, current, index)
            written = replace(current, index=record)
            write_manifest(directory, written)
            return written
    return replace(manifest, index=record)


def refusal(kind: str) -> str:
    """Say why an index of a kind is not used."""
    return (
        f"the {kind} index finds less than {ASKED_RECALL:.0%} of the best 10 categories however widely it searches, so "
        "search is exact; try another --index"
    )
