"""Checks of a memory beyond those of opening it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memory.encoder_card import is_fingerprint
from memory.errors import MemoryDamaged
from memory.flat import read_flat
from memory.integrity import check_rows, open_checked
from memory.manifest import Manifest
from memory.search import index_is_current
from memory.store import TableStore
from memory.tables import load_vectors, owner_ids
from memory.vectors import STORED_TOLERANCE, MemoryVectors, are_unit_rows, equal_vectors
from memory.wording import counted


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: short name of the check.
        ok: whether it passed.
        message: what was measured, or what is wrong.
    """

    check: str
    ok: bool
    message: str


def verify_memory(directory: Path, manifest: Manifest, load: Callable[[], MemoryVectors]) -> list[Finding]:
    """Check files, counts, dimensions, unit norms, ids, orphan rows, the fingerprint, the flat copy and the index.

    Args:
        directory: the memory.
        manifest: its manifest.
        load: reads the tables; not called when files are damaged, which is then the only finding.
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
        _flat(directory, manifest, vectors),
        _index(directory, manifest),
    ]


def _files(directory: Path) -> Finding:
    try:
        manifest = open_checked(directory)
        check_rows(directory, manifest)
    except MemoryDamaged as error:
        return Finding("files", False, str(error))
    number = sum(len(table.files) for table in manifest.tables.values())
    return Finding("files", True, f"size and sha256 of {counted(number, 'file')} as recorded")


def _counts(manifest: Manifest, vectors: MemoryVectors) -> Finding:
    counts = {
        "categories": len(vectors.names),
        "descriptions": len(vectors.bare),
        "exemplars": len(vectors.exemplars),
    }
    wrong = [f"{counts[t]} {t} instead of {manifest.rows(t)}" for t in counts if counts[t] != manifest.rows(t)]
    message = ", ".join(wrong or [f"{number} {table}" for table, number in counts.items()])
    return Finding("counts", not wrong, message)


def _matrices(manifest: Manifest, vectors: MemoryVectors) -> Iterator[Finding]:
    matrices = {
        "names": vectors.names,
        "grounded descriptions": vectors.grounded,
        "bare descriptions": vectors.bare,
        "exemplars": vectors.exemplars,
        **({"negative labels": vectors.negatives} if len(vectors.negatives) else {}),
    }
    wrong = [f"{what} have {m.shape[1]}" for what, m in matrices.items() if m.shape[1] != manifest.encoder.dim]
    yield Finding("dimensions", not wrong, "; ".join(wrong) or f"all vectors have {manifest.encoder.dim} dimensions")
    other = [f"{number} {what}" for what, m in matrices.items() if (number := int((~are_unit_rows(m, STORED_TOLERANCE)).sum()))]
    yield Finding(
        "unit norms", not other, ("not of unit length: " + ", ".join(other)) if other else "all rows have unit length"
    )


def _ids(vectors: MemoryVectors) -> Finding:
    number = len(vectors.categories) - len({category.id for category in vectors.categories})
    return Finding(
        "distinct ids", number == 0, f"{number} categories are in it twice" if number else "all ids are distinct"
    )


def _orphans(directory: Path, manifest: Manifest, vectors: MemoryVectors) -> Finding:
    known = {category.id for category in vectors.categories}
    store = TableStore(directory)
    orphans = [
        f"{category_id} in {table}"
        for table in ("descriptions", "exemplars")
        if table in manifest.tables
        for category_id in owner_ids(store, table, manifest.tables[table])
        if category_id not in known
    ]
    message = "every row has its category"
    if orphans:
        message = f"rows of {len(orphans)} category ids that do not exist, such as {orphans[0]}"
    return Finding("orphan rows", not orphans, message)


def _fingerprint(manifest: Manifest) -> Finding:
    fingerprint = manifest.encoder.fingerprint
    ok = is_fingerprint(fingerprint)
    return Finding("fingerprint", ok, f"{fingerprint[:12]}… of {manifest.encoder.name!r}" if ok else "not well-formed")


def _flat(directory: Path, manifest: Manifest, vectors: MemoryVectors) -> Finding:
    flat = read_flat(directory, manifest)
    if flat is None:
        return Finding("flat copy", True, "there is none of these tables; readers use the tables")
    same = equal_vectors(load_vectors(flat, manifest.tables, manifest.encoder.dim), vectors)
    return Finding(
        "flat copy",
        same,
        f"same rows as version {manifest.version}" if same else "it has other rows than the tables; build again",
    )


def _index(directory: Path, manifest: Manifest) -> Finding:
    if manifest.index.kind == "exact":
        return Finding("index", True, "exact search needs no index")
    if index_is_current(directory, manifest):
        return Finding("index", True, f"{manifest.index.kind} index belongs to version {manifest.version}")
    return Finding(
        "index", False, "the index is missing, damaged or older than the tables; the next search builds it again"
    )
