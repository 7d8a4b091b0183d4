"""Approximate indexes on the disk, beside the tables they are made from.

The folder ``index`` of a memory holds an index, the list of its owners and a card, INDEX.json, which is written last.
It says which tables and which fold the index belongs to, which release of the library wrote it, and has the size and
the block sums of every file. What does not fit is built again. Files have new names at each change: whoever reads the
earlier ones keeps them.

An edit of the memory writes the owners and the card alone: slots of removed categories are dead, categories that no
slot holds are compared one by one. When that gets slow, the next opening extends the index, or builds it again.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory.durable import replacing, sync_with_folders, write_failure
from memory.index import CHUNK_ROWS, gpu_count
from memory.manifest import Manifest
from memory.mapped import BlockRecord, DamagedBlock, MappedBlocks, block_record
from memory.sealed import seal, sha256_of, unseal
from memory.search.fold import Fold, JointRows
from memory.search.gpu import GpuIndex
from memory.search.kinds import HnswIndex, IvfIndex, StoredIndex
from memory.search.lance import LanceIndex
from memory.search.proposals import MemoryIndex, whole_index
from memory.search.tuning import tune
from memory.vectors import MemoryVectors

INDEX_FOLDER = "index"
_CARD_NAME = "INDEX.json"
# Categories that are compared one by one: 16 MB of rows, a millisecond for five regions.
MAX_TAIL = 4096
# Share of the slots that may be dead: they are found first, and thrown away.
MAX_DEAD = 0.1
# Share by which inverted lists grow before their centroids are found anew.
_MAX_GROWTH = 0.5
# What files that are missing, damaged or foreign raise.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, DamagedBlock)

_Owned: TypeAlias = tuple[HnswIndex | IvfIndex, NDArray[np.int64]]
"""An index, and the category of each of its slots."""


def open_index(
    directory: Path, vectors: MemoryVectors, manifest: Manifest, fold: Fold, kind: str
) -> MemoryIndex | None:
    """Open the stored index of a kind, on the GPU where there is one.

    Args:
        directory: the memory.
        vectors: its vectors.
        manifest: its manifest.
        fold: of the rows.
        kind: an approximate one.

    Returns:
        The index; None when there is none of these tables, it is damaged or foreign, or edits have made it slow.
    """
    card = _read_card(directory)
    if card is None or not _belongs_to(card, manifest, fold, kind):
        return None
    try:
        files, path = _checked(directory, card), directory / INDEX_FOLDER / card["main"]
        owners = _owners(directory, card, files)
        on_gpu = _on_gpu(vectors, fold)
        if on_gpu is not None:
            return replace(on_gpu, depth=card["depth"], figures=card["figures"])
        main: StoredIndex
        if kind == "lance":
            main = LanceIndex(path)
        else:
            main = (HnswIndex if kind == "hnsw" else IvfIndex).load(path, files["main"])
    except _UNUSABLE:
        return None
    main.effort = card["effort"]
    rows = JointRows(vectors, fold)
    alive = owners[owners >= 0]
    tail = np.setdiff1d(np.arange(rows.shape[0]), alive)
    if len(tail) > MAX_TAIL or main.size - len(alive) > MAX_DEAD * main.size:
        return None
    return MemoryIndex(kind, fold, main, owners, tail, rows.take(tail), card["depth"], card["figures"])


def write_index(directory: Path, vectors: MemoryVectors, manifest: Manifest, fold: Fold, kind: str) -> MemoryIndex:
    """Build an index, or extend the stored one, measure its recall and store it; for the holder of the writer lock.

    Args:
        directory: the memory.
        vectors: its vectors.
        manifest: of the tables that they are from, published or not yet.
        fold: of the rows.
        kind: an approximate one.

    Returns:
        The index, in RAM; its `figures["search"]` is its recall.

    Raises:
        WriteFailed: the disk refuses.
    """
    folder = directory / INDEX_FOLDER
    name = f"{kind}-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir(exist_ok=True)
        extended = _extended(directory, JointRows(vectors, fold), manifest, fold, kind)
        index, main = make_index(vectors, fold, kind, folder / name, extended)
        main.save(folder / name)
        _publish(folder, index, main, manifest, name)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _delete(folder / name)
        if isinstance(error, OSError):
            raise write_failure(folder, error) from error
        raise
    return index


def make_index(
    vectors: MemoryVectors, fold: Fold, kind: str, path: Path, extended: _Owned | None = None
) -> tuple[MemoryIndex, StoredIndex]:
    """Build an index and tune it; returned are the whole and its `main`.

    Args:
        vectors: of a memory.
        fold: of the rows.
        kind: an approximate one.
        path: a folder that does not exist yet, where LanceDB puts its files.
        extended: an earlier index to which the categories were added, with the owners of its slots; None: none.
    """
    rows = JointRows(vectors, fold)
    main, owners = extended or (_built(rows, kind, path), np.arange(rows.shape[0]))
    index = replace(whole_index(kind, main, vectors, fold), owners=owners)
    return replace(index, figures={"search": round(tune(index, main, rows), 4)}), main


def follow_index(
    directory: Path,
    before: Manifest,
    after: Manifest,
    removed: NDArray[np.int64],
    inserted: NDArray[np.int64],
) -> None:
    """Keep the stored index in step with an edit of its memory; for the holder of the writer lock.

    Args:
        directory: the memory.
        before: manifest before the edit.
        after: manifest after it, published.
        removed: rows, of before, of the categories that were removed or replaced.
        inserted: rows, of after, of those that were added or replace others.
    """
    card = _read_card(directory)
    if card is None or card["tables"] != _tables(before):
        return
    folder = directory / INDEX_FOLDER
    try:
        if len(removed) or len(inserted):
            owners = _owners(directory, card, _checked(directory, card))
            new_rows = np.full(before.rows("categories") + 1, -1, np.int32)  # the last one stands for -1
            stay = np.setdiff1d(np.arange(before.rows("categories")), removed)
            new_rows[stay] = np.setdiff1d(np.arange(after.rows("categories")), inserted)
            card = _with_owners(folder, card, new_rows[owners])
        _write_card(folder, {**card, "tables": _tables(after)})
    except _UNUSABLE:
        (folder / _CARD_NAME).unlink(missing_ok=True)


def store_figures(directory: Path, manifest: Manifest, index: MemoryIndex) -> None:
    """Add to the card of a current index what its user measured: figures, width and depth; needs the lock."""
    card = _read_card(directory)
    if card is not None and card["tables"] == _tables(manifest):
        effort = index.main.effort if isinstance(index.main, StoredIndex) else card["effort"]
        found = {"effort": effort, "depth": index.depth, "figures": dict(index.figures)}
        _write_card(directory / INDEX_FOLDER, {**card, **found})


def index_is_current(directory: Path, manifest: Manifest) -> bool:
    """Say whether the stored index belongs to the tables of a manifest, with any fold; all its blocks are checked."""
    card = _read_card(directory)
    if card is None or card["tables"] != _tables(manifest):
        return False
    try:
        for record in card["files"].values():
            MappedBlocks(directory / INDEX_FOLDER, BlockRecord.from_json(record)).check()
    except _UNUSABLE:
        return False
    return True


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _on_gpu(vectors: MemoryVectors, fold: Fold) -> MemoryIndex | None:
    if not gpu_count():
        return None
    try:
        return whole_index("gpu", GpuIndex(JointRows(vectors, fold)), vectors, fold)
    except RuntimeError:  # no room on it
        return None


def _built(rows: JointRows, kind: str, draft: Path) -> StoredIndex:
    if kind == "lance":
        return LanceIndex.build(rows, draft)
    return HnswIndex.build(rows) if kind == "hnsw" else IvfIndex.build(rows)


def _extended(directory: Path, rows: JointRows, manifest: Manifest, fold: Fold, kind: str) -> _Owned | None:
    """Return the stored index with the categories that it lacks; None where it has to be built."""
    card = _read_card(directory)
    if card is None or kind == "lance" or not _belongs_to(card, manifest, fold, kind):
        return None
    try:
        files, path = _checked(directory, card), directory / INDEX_FOLDER / card["main"]
        owners = _owners(directory, card, files)
        alive = owners[owners >= 0]
        tail = np.setdiff1d(np.arange(rows.shape[0]), alive)
        dead = len(owners) - len(alive)
        if kind == "hnsw":
            if dead > MAX_DEAD * len(owners):
                return None
            main: HnswIndex | IvfIndex = HnswIndex.editable(path, files["main"])
        else:
            if dead + len(tail) > _MAX_GROWTH * len(owners):
                return None
            main = IvfIndex.editable(path, files["main"])
            main.remove(np.flatnonzero(owners < 0))
        for start in range(0, len(tail), CHUNK_ROWS):
            main.extend(rows.take(tail[start : start + CHUNK_ROWS]), len(owners) + start)
    except _UNUSABLE:
        return None
    return main, np.concatenate([owners, tail])


def _publish(folder: Path, index: MemoryIndex, main: StoredIndex, manifest: Manifest, name: str) -> None:
    """Write owners and card for an index that lies in the folder under a name; delete what they replace."""
    parts = sorted(str(path.relative_to(folder)) for path in _files(folder / name))
    sync_with_folders(folder, parts)
    card = {
        "tables": _tables(manifest),
        "fold_key": index.fold.key,
        "kind": index.kind,
        "library": _library(index.kind),
        "main": name,
        "effort": main.effort,
        "depth": 0,
        "figures": dict(index.figures),
        "files": {part: asdict(block_record(folder, part)) for part in parts},
    }
    _write_card(folder, _with_owners(folder, card, index.owners))


def _with_owners(folder: Path, card: Mapping[str, Any], owners: NDArray[np.integer]) -> dict[str, Any]:
    """Write a list of owners under a new name, and return the card with it instead of the one before."""
    name = f"owners-{uuid.uuid4().hex[:12]}"
    with replacing(folder / name) as draft:
        owners.astype(np.int32).tofile(draft)
        record = {**asdict(block_record(draft.parent, draft.name)), "file": name}
    files = {part: sums for part, sums in card["files"].items() if part != card.get("owners")}
    return {**card, "owners": name, "files": {**files, name: record}}


def _owners(directory: Path, card: Mapping[str, Any], files: Mapping[str, MappedBlocks]) -> NDArray[np.int64]:
    files["owners"].check()
    return np.fromfile(directory / INDEX_FOLDER / card["owners"], np.int32).astype(np.int64)


def _checked(directory: Path, card: Mapping[str, Any]) -> dict[str, MappedBlocks]:
    """Map all files; return what checks the blocks of the owners and, if it is one file, the index.

    Raises:
        OSError, ValueError, KeyError, TypeError: a file is missing, or shorter than was written.
    """
    folder = directory / INDEX_FOLDER
    blocks = {name: MappedBlocks(folder, BlockRecord.from_json(record)) for name, record in card["files"].items()}
    return {role: blocks[card[role]] for role in ("owners", "main") if card[role] in blocks}


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _tables(manifest: Manifest) -> str:
    """Return a hash over what the rows are made from; examples and negative labels are not in it."""
    made_from = ("categories", "descriptions")
    return sha256_of({name: asdict(manifest.tables[name]) for name in made_from if name in manifest.tables})


def _library(kind: str) -> str:
    import faiss

    return f"faiss {faiss.__version__}" if kind != "lance" else f"lancedb {version('lancedb')}"


def _belongs_to(card: Mapping[str, Any], manifest: Manifest, fold: Fold, kind: str) -> bool:
    wanted = {"kind": kind, "fold_key": fold.key, "tables": _tables(manifest), "library": _library(kind)}
    return all(card[key] == value for key, value in wanted.items())


def _read_card(directory: Path) -> dict[str, Any] | None:
    """Return the index card; None when there is none, its hash is wrong, or an earlier release wrote it."""
    try:
        card = unseal((directory / INDEX_FOLDER / _CARD_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return card if "owners" in card else None


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write the card, then delete the files that it does not list: whoever has them open keeps them."""
    with replacing(folder / _CARD_NAME) as draft:
        draft.write_bytes(seal(card))
    kept = {_CARD_NAME, *(name.partition("/")[0] for name in card["files"])}
    for path in folder.iterdir():
        if path.name not in kept:
            _delete(path)
