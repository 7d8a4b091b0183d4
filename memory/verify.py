"""Checks on an opened memory, beyond those that opening makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memory.encoder_card import is_fingerprint
from memory.errors import MemoryDamaged
from memory.integrity import open_checked
from memory.manifest import Manifest
from memory.search import index_is_current
from memory.store import TableStore
from memory.tables import owner_ids
from memory.vectors import UNIT_TOLERANCE, Matrix, MemoryVectors


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: short name of the check.
        ok: whether it passed.
        message: what was found, and what to do when it did not pass.
    """

    check: str
    ok: bool
    message: str


def verify_memory(directory: Path, manifest: Manifest, load: Callable[[], MemoryVectors]) -> list[Finding]:
    """Check files, counts, dimensions, unit norms, ids, orphan rows, the fingerprint and the index.

    Args:
        directory: the memory.
        manifest: its manifest.
        load: reads its vectors; not called when the files are damaged, which is then the only finding.
    """
    files = _files(directory)
    if not files.ok:
        return [files]
    vectors = load()
    return [
        files,
        _counts(manifest, vectors),
        *_matrices(manifest, vectors),
        _ids(vectors),
        _orphans(directory, manifest, vectors),
        _fingerprint(manifest),
        _index(directory, manifest),
    ]


def _files(directory: Path) -> Finding:
    try:
        manifest = open_checked(directory)
    except MemoryDamaged as error:
        return Finding("files", False, str(error))
    number = sum(len(table.files) for table in manifest.tables.values())
    return Finding("files", True, f"{number} files have the recorded size and sha256")


def _counts(manifest: Manifest, vectors: MemoryVectors) -> Finding:
    found = {
        "categories": len(vectors.names),
        "descriptions": len(vectors.bare),
        "exemplars": len(vectors.exemplars),
    }
    wrong = [f"{found[t]} {t} instead of {manifest.rows(t)}" for t in found if found[t] != manifest.rows(t)]
    message = ", ".join(wrong or [f"{number} {table}" for table, number in found.items()])
    return Finding("counts", not wrong, message)


def _matrices(manifest: Manifest, vectors: MemoryVectors) -> Iterator[Finding]:
    matrices = {
        "names": vectors.names,
        "grounded descriptions": vectors.grounded,
        "bare descriptions": vectors.bare,
        "exemplars": vectors.exemplars,
    }
    wrong = [f"{what} have {m.shape[1]}" for what, m in matrices.items() if m.shape[1] != manifest.encoder.dim]
    yield Finding("dimensions", not wrong, "; ".join(wrong) or f"all vectors have {manifest.encoder.dim}")
    bent = [f"{number} {what}" for what, m in matrices.items() if (number := _not_unit(m))]
    yield Finding("unit norms", not bent, ("not of unit length: " + ", ".join(bent)) if bent else "all rows are unit")


def _not_unit(matrix: Matrix) -> int:
    lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))
    return int((~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE)).sum())


def _ids(vectors: MemoryVectors) -> Finding:
    number = len(vectors.categories) - len({category.id for category in vectors.categories})
    return Finding(
        "distinct ids", number == 0, f"{number} categories stand twice" if number else "all ids are distinct"
    )


def _orphans(directory: Path, manifest: Manifest, vectors: MemoryVectors) -> Finding:
    known = {category.id for category in vectors.categories}
    store = TableStore(directory)
    orphans = [
        f"{owner} in {table}"
        for table in ("descriptions", "exemplars")
        if table in manifest.tables
        for owner in owner_ids(store, table, manifest.tables[table])
        if owner not in known
    ]
    message = f"{len(orphans)} rows without a category, first {orphans[0]}" if orphans else "every row has its category"
    return Finding("orphan rows", not orphans, message)


def _fingerprint(manifest: Manifest) -> Finding:
    fingerprint = manifest.encoder.fingerprint
    ok = is_fingerprint(fingerprint)
    return Finding("fingerprint", ok, f"{fingerprint[:12]}… of {manifest.encoder.name!r}" if ok else "not well-formed")


def _index(directory: Path, manifest: Manifest) -> Finding:
    if manifest.index.kind == "exact":
        return Finding("index", True, "exact search needs none")
    if index_is_current(directory, manifest):
        return Finding("index", True, f"{manifest.index.kind} index belongs to version {manifest.version}")
    return Finding(
        "index", False, "the index is missing, damaged or older than the tables; the next search rebuilds it"
    )
