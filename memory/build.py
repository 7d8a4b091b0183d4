"""Writing a memory: build it, add categories to it, take categories out of it.

A build goes through these stages; whenever it is killed, the memory is the one before or the one after.

1. plan: the final texts of every row, and a key for each row.
2. encode: texts whose rows are neither in the published tables nor in the journal, chunk by chunk into the journal.
3. write: new Lance versions of the tables, brought to the disk.
4. publish: MEMORY.json names the new versions; then the journal goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memory.category import Category
from memory.durable import LOCK_NAME
from memory.encode import Progress, PublishedVectors, VectorSource, encode_missing, plan_keys, plan_texts
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import EncoderMismatch, MemoryStoreError, printable, printable_path
from memory.integrity import QUARANTINE
from memory.journal import JOURNAL_NAME, VectorJournal, remove_journal
from memory.manifest import MANIFEST_NAME, Manifest, TableRecord, write_manifest
from memory.plan import Plan, make_plan
from memory.search import INDEX_FOLDER
from memory.store import TableStore
from memory.tables import TABLES, category_batches, description_batches, exemplar_batches, schema
from memory.vectors import ExemplarSet, check_unit_rows

_MAX_TABLE_FILES = 150
_OWN_NAMES = frozenset(
    {LOCK_NAME, MANIFEST_NAME, MANIFEST_NAME + ".tmp", JOURNAL_NAME, INDEX_FOLDER, QUARANTINE}
    | {f"{table}.lance" for table in TABLES}
)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build or an addition did. Texts are distinct final texts, templates applied.

    Attributes:
        categories: categories handed in, after merging.
        descriptions: their descriptions.
        texts_encoded: texts that the encoder was called with.
        texts_reused: texts whose vectors were in the memory, or computed by an interrupted build.
        texts_truncated: texts longer than the encoder reads.
        seconds: wall time.
        ann_recall: the lower recall@10 of the approximate indexes, None for exact search.
    """

    categories: int
    descriptions: int
    texts_encoded: int
    texts_reused: int
    texts_truncated: int
    seconds: float
    ann_recall: float | None = None


class MemoryWriter:
    """Writes to a memory; the caller holds the writer's lock.

    Args:
        directory: the memory; it exists.
        tables: the tables that can be read: those of the current manifest that are intact.
        version: the version that is published at present, 0 for none.
    """

    def __init__(self, directory: Path, tables: Mapping[str, TableRecord], version: int) -> None:
        """Start writing: clear away what no table needs."""
        self._directory = directory
        self._store = TableStore(directory)
        self._tables = dict(tables)
        self._version = version
        self._started = time.monotonic()
        self._store.sweep(self._tables, TABLES)

    @property
    def next_version(self) -> int:
        """The version that will be published."""
        return self._version + 1

    def replace_all(
        self,
        categories: Sequence[Category],
        exemplars: ExemplarSet | None,
        templates: tuple[str, ...],
        encoder: TextEncoder,
        progress: Progress | None,
    ) -> tuple[dict[str, TableRecord], BuildReport]:
        """Write tables that hold these categories only; returns them unpublished."""
        plan = make_plan(categories, templates, encoder.card)
        source, report = self._vectors(plan, encoder, progress)
        batches = self._batches(plan, exemplars, {}, encoder.card, source)
        written = {
            name: self._store.replace(name, self._tables.get(name), schema(name, encoder.card.dim), rows)
            for name, rows in batches.items()
        }
        return {name: table for name, table in written.items() if table is not None}, self._timed(report)

    def put(
        self,
        categories: Sequence[Category],
        present: Sequence[str],
        exemplars: ExemplarSet | None,
        exemplar_counts: Mapping[str, int],
        manifest: Manifest,
        encoder: TextEncoder,
        progress: Progress | None,
    ) -> tuple[dict[str, TableRecord], BuildReport]:
        """Write tables with categories added; returns them unpublished.

        Args:
            categories: the categories to write.
            present: ids of those that are in the tables and are replaced.
            exemplars: example images to add to those there are.
            exemplar_counts: how many exemplars each category id has, where it has some.
            manifest: the published manifest.
            encoder: the memory's encoder.
            progress: called with texts encoded so far and texts to encode.
        """
        plan = make_plan(categories, manifest.templates, encoder.card)
        source, report = self._vectors(plan, encoder, progress)
        tables = self.without(present, ("categories", "descriptions")) if present else dict(self._tables)
        for name, rows in self._batches(plan, exemplars, exemplar_counts, encoder.card, source).items():
            written = self._extend(name, tables.get(name), schema(name, encoder.card.dim), rows)
            if written is not None:
                tables[name] = written
        return tables, self._timed(report)

    def without(self, ids: Sequence[str], names: Iterable[str] = TABLES) -> dict[str, TableRecord]:
        """Write tables without the rows of some categories."""
        tables = dict(self._tables)
        for name in names:
            if name in tables:
                column = "id" if name == "categories" else "category_id"
                tables[name] = self._store.delete(name, tables[name], column, ids)
        return tables

    def publish(self, manifest: Manifest) -> Manifest:
        """Make a manifest the memory's own, under the next version; returns it with that version."""
        published = replace(manifest, version=self.next_version)
        write_manifest(self._directory, published)
        remove_journal(self._directory)
        return published

    def _extend(
        self, name: str, table: TableRecord | None, columns: pa.Schema, rows: Iterable[pa.RecordBatch]
    ) -> TableRecord | None:
        """Append rows to a table; one that consists of many files is written anew in one."""
        if table is not None and len(table.files) < _MAX_TABLE_FILES:
            first = next(iterator := iter(rows), None)
            return table if first is None else self._store.append(name, table, columns, chain([first], iterator))
        current = self._store.scan(name, table, columns.names) if table is not None else ()
        return self._store.replace(name, table, columns, chain(current, rows))

    def _vectors(self, plan: Plan, encoder: TextEncoder, progress: Progress | None) -> tuple[VectorSource, BuildReport]:
        card = encoder.card
        published = PublishedVectors(self._store, self._tables, plan_keys(plan), card.dim)
        journal = VectorJournal(self._directory, card.dim)
        distinct = plan_texts(plan)
        encoded = encode_missing(list(plan_texts(plan, published)), encoder, journal, progress)
        truncated = encoder.count_truncated(list(distinct)) if distinct else 0
        report = BuildReport(
            len(plan.categories), len(plan.bare.texts), encoded, len(distinct) - encoded, truncated, 0.0
        )
        return VectorSource(card, published, journal), report

    @staticmethod
    def _batches(
        plan: Plan,
        exemplars: ExemplarSet | None,
        exemplar_counts: Mapping[str, int],
        card: EncoderCard,
        source: VectorSource,
    ) -> dict[str, Iterable[pa.RecordBatch]]:
        return {
            "categories": category_batches(plan, card.dim, source.vectors_of),
            "descriptions": description_batches(plan, card.dim, source.vectors_of),
            "exemplars": () if exemplars is None else exemplar_batches(exemplars, exemplar_counts, card.dim),
        }

    def _timed(self, report: BuildReport) -> BuildReport:
        return replace(report, seconds=time.monotonic() - self._started)


def check_directory(directory: Path) -> None:
    """Make the directory of a memory, and refuse one that holds something else.

    Raises:
        MemoryStoreError: it cannot be made, or holds files of others and no memory.
    """
    shown = printable_path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        entries = {entry.name for entry in directory.iterdir()}
    except OSError as error:
        raise MemoryStoreError(
            f"{shown} cannot be used as a memory ({error.strerror}). Give a folder that can be written."
        ) from error
    foreign = sorted(entries - _OWN_NAMES)
    if foreign and MANIFEST_NAME not in entries:
        raise MemoryStoreError(
            f"{shown} holds other files ({printable(foreign[0])}) and no memory. Give an empty or a new folder."
        )


def check_exemplars(exemplars: ExemplarSet | None, ids: Iterable[str], card: EncoderCard) -> ExemplarSet | None:
    """Check exemplars against the categories and the encoder they belong to.

    Raises:
        BadVectors: a vector is not a finite unit row of the encoder's dimension.
        MemoryStoreError: an exemplar of a category that is not there.
    """
    if exemplars is None or not len(exemplars.category_ids):
        return None
    strangers = sorted(set(exemplars.category_ids) - set(ids))
    if strangers:
        raise MemoryStoreError(
            f"there are exemplars of category id {strangers[0]!r}, which is not among the categories."
        )
    vectors = check_unit_rows(
        np.asarray(exemplars.vectors), [str(r) for r in exemplars.references], card.dim, "the exemplar set"
    )
    return replace(exemplars, vectors=vectors)


def check_same_encoder(manifest: Manifest, card: EncoderCard) -> None:
    """Raise EncoderMismatch when a memory was made by another encoder."""
    made_by = manifest.encoder
    if made_by.fingerprint != card.fingerprint or made_by.dim != card.dim:
        raise EncoderMismatch(
            f"this memory was made by the encoder {made_by.name!r} ({made_by.fingerprint[:12]}, {made_by.dim} "
            f"dimensions), not by {card.name!r} ({card.fingerprint[:12]}, {card.dim} dimensions). "
            "Use the encoder it was made by, or build the memory again with the other one."
        )


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they will be read back.

    Raises:
        ValueError: something in them is not JSON.
    """
    try:
        return dict(json.loads(json.dumps(dict(settings), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the settings of a memory must be JSON: {error}") from error
