"""Checks of a memory beyond those of opening it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memory.encoder_card import is_fingerprint
from memory.errors import MemoryDamaged
from memory.flat.reader import check_flat, checked_tables, read_flat, same_rows, stored_columns
from memory.integrity import check_rows, open_checked
from memory.manifest import Manifest
from memory.search import index_is_current
from memory.store import TableStore
from memory.tables import owner_ids
from memory.vectors import ROWS_AT_A_TIME, STORED_TOLERANCE, MemoryVectors, VectorRows, are_unit_rows
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


def verify_memory(directory: Path, manifest: Manifest, vectors: MemoryVectors | None = None) -> list[Finding]:
    """Check files, counts, dimensions, unit norms, ids, orphan rows, the fingerprint, the flat copy and the index.

    Args:
        directory: the memory.
        manifest: its manifest.
        vectors: what readers see; None: read here. When files are damaged, that is the only finding.
    """
    files = _files(directory)
    if not files.ok:
        return [files]
    flat = _flat(directory, manifest)
    if vectors is None:
        columns = stored_columns(directory, manifest) if flat.ok else checked_tables(directory, manifest)
        vectors = columns.vectors()
    return [
        files,
        _counts(manifest, vectors),
        *_matrices(manifest, vectors),
        _ids(vectors),
        _orphans(directory, manifest, vectors),
        _fingerprint(manifest),
        flat,
        _index(directory, manifest),
    ]


def _files(directory: Path) -> Finding:
    try:
        manifest = open_checked(directory, whole=True)
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
    other = [f"{number} {what}" for what, m in matrices.items() if (number := _other_lengths(m))]
    yield Finding(
        "unit norms", not other, ("not of unit length: " + ", ".join(other)) if other else "all rows have unit length"
    )


def _other_lengths(rows: VectorRows) -> int:
    """Count the rows that are not of unit length."""
    parts = (rows[start : start + ROWS_AT_A_TIME] for start in range(0, len(rows), ROWS_AT_A_TIME))
    return sum(int((~are_unit_rows(part, STORED_TOLERANCE)).sum()) for part in parts)


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


def _flat(directory: Path, manifest: Manifest) -> Finding:
    try:
        damage = check_flat(directory, manifest)
    except KeyError:
        return Finding("flat copy", True, "there is none of these tables; readers use the tables")
    flat = read_flat(directory, manifest)
    if damage is not None or flat is None:
        return Finding("flat copy", False, f"{damage}; `recognizer repair` writes it again")
    other = [name for name, record in manifest.tables.items() if not same_rows(directory, name, record, flat)]
    return Finding(
        "flat copy",
        not other,
        f"other rows than the table {other[0]!r}; `recognizer repair` writes it again"
        if other
        else f"same rows as version {manifest.version}",
    )


def _index(directory: Path, manifest: Manifest) -> Finding:
    if manifest.index.kind == "exact":
        return Finding("index", True, "exact search needs no index")
    if index_is_current(directory, manifest):
        return Finding("index", True, f"{manifest.index.kind} index belongs to version {manifest.version}")
    return Finding(
        "index", False, "the index is missing, damaged or older than the tables; the next search builds it again"
    )
