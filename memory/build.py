"""Writing a memory: build it, add categories to it, remove categories from it.

A build has four stages. Whenever it is killed, the memory is the one before the build or the one after it.

1. texts: the distinct final texts of all rows, into a temporary file; in memory are a key and the length of each.
2. encode: texts whose rows are neither in the published tables nor in the journal, sorted by length, chunk by chunk
   into the journal.
3. write: new Lance versions of the tables, brought to the disk.
4. publish: MEMORY.json names the new versions; then the journal is deleted, and the flat copy written for readers.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from memory.category import Category
from memory.columns import MemoryColumns
from memory.encode import DistinctTexts, Progress, PublishedVectors, VectorSource, encode_missing
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import EncoderMismatch, MemoryStoreError, WriteFailed
from memory.flat.writer import FlatWriter
from memory.halves import rounded
from memory.journal import VectorJournal, remove_journal
from memory.manifest import Manifest, TableRecord, write_manifest
from memory.negatives import NegativeLabels
from memory.store import TableStore
from memory.tables import (
    CATEGORY_TABLES,
    OWNER_COLUMNS,
    TABLES,
    as_stored,
    category_batches,
    description_batches,
    exemplar_batches,
    negative_batches,
    schema,
)
from memory.texts import BuildTexts
from memory.vectors import ExemplarSet, check_unit_rows

# A table of more files is rewritten into one. Each addition adds three files or so, and opening a memory hashes all of
# them, so hundreds would be slow; rewriting at every addition would copy all vectors each time.
MAX_TABLE_FILES = 150


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build or an addition did. Texts are distinct final texts, with templates applied.

    Attributes:
        categories: categories handed in, after merging.
        descriptions: their descriptions.
        texts_encoded: texts that the encoder was called with.
        texts_reused: texts whose vectors were in the memory, or computed by an interrupted build.
        texts_truncated: texts longer than the encoder reads.
        seconds: wall time.
        ann_recall: recall@10 of the approximate index, None for exact search.
        index_problem: why an index that was asked for is not used; empty: it is.
        unchanged: whether the memory held all of it already, so that nothing was done; then no text is counted.
    """

    categories: int
    descriptions: int
    texts_encoded: int
    texts_reused: int
    texts_truncated: int
    seconds: float
    ann_recall: float | None = None
    index_problem: str = ""
    unchanged: bool = False


class MemoryWriter:
    """Context manager that writes to a memory, for the holder of its writer lock.

    When it is left by an error, it deletes what was written for nothing, in all tables: it would fill a full disk.

    Args:
        directory: the memory; it exists.
        dim: dimension D of what will be written.
        tables: the tables to go on from (see ``recovery.usable_tables``), the newest that Lance sees.
        published: the published manifest, None for none.
        columns: of these tables; None: none that can be used.
    """

    def __init__(
        self,
        directory: Path,
        dim: int,
        tables: Mapping[str, TableRecord],
        published: Manifest | None,
        columns: MemoryColumns | None,
    ) -> None:
        """Take the tables as they are published."""
        self._directory = directory
        self._dim = dim
        self._store = TableStore(directory)
        self._flat = FlatWriter(directory, dim, published)
        self._tables = dict(tables)
        self._columns = columns
        self._version = 0 if published is None else published.version
        self._started = time.monotonic()
        self._files_before: set[str] = set()
        self._may_be_published = False
        self._copy_is_finished = False

    def __enter__(self) -> MemoryWriter:
        """Note which files are there."""
        self._files_before = self._files()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error, delete the new files, unless a manifest may list them."""
        if error is not None and not self._may_be_published:
            with contextlib.suppress(OSError):  # the next writer deletes what stays
                self._store.delete_files(self._files() - self._files_before)
            self._flat.abandon()

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
        negatives: NegativeLabels | None = None,
    ) -> tuple[dict[str, TableRecord], BuildReport]:
        """Write tables that hold only these categories; return them, not yet published."""
        names = () if negatives is None else negatives.names
        texts = BuildTexts(categories, templates, encoder.card, names)
        source, report = self._encode(texts, encoder, progress)
        batches = self._batches(texts, exemplars, {}, encoder.card, source)
        if negatives is not None:
            batches["negatives"] = _negative_batches(negatives, texts, texts.categories, encoder.card, source)
        for name in TABLES:
            self._flat.drop(name)
        written = {name: self._replace(name, self._tables.get(name), rows) for name, rows in batches.items()}
        tables = {name: table for name, table in written.items() if table is not None}
        return tables, self._finished(report, tables["descriptions"].rows if "descriptions" in tables else 0)

    def put(
        self,
        categories: Sequence[Category],
        replaced: Sequence[str],
        exemplars: ExemplarSet | None,
        manifest: Manifest,
        encoder: TextEncoder,
        progress: Progress | None,
        negatives: NegativeLabels | None,
    ) -> tuple[dict[str, TableRecord], BuildReport]:
        """Write tables with categories added; return them, not yet published.

        Args:
            categories: the categories to write.
            replaced: ids of those that are in the tables already.
            exemplars: further example images.
            manifest: the published manifest.
            encoder: the memory's encoder.
            progress: called with texts encoded so far and texts to encode.
            negatives: chosen again; None: the tables then have none.
        """
        names = () if negatives is None else negatives.names
        texts = BuildTexts(categories, manifest.templates, encoder.card, names)
        source, report = self._encode(texts, encoder, progress)
        tables = self.without(replaced, ("categories", "descriptions")) if replaced else dict(self._tables)
        present = self._columns.exemplar_counts() if exemplars is not None and self._columns is not None else {}
        for name, rows in self._batches(texts, exemplars, present, encoder.card, source).items():
            table = self._extend(name, tables.get(name), rows)
            if table is not None:
                tables[name] = table
        before = tables.pop("negatives", None)
        self._flat.drop("negatives")
        if negatives is not None:
            gone, stored = set(replaced), () if self._columns is None else self._columns.categories()
            others = [category for category in stored if category.id not in gone]
            rows = _negative_batches(negatives, texts, [*others, *texts.categories], encoder.card, source)
            table = self._replace("negatives", before, rows)
            if table is not None:
                tables["negatives"] = table
        return tables, self._finished(report, sum(len(category.descriptions) for category in categories))

    def without(self, ids: Sequence[str], names: Iterable[str] = CATEGORY_TABLES) -> dict[str, TableRecord]:
        """Write tables without the rows of some categories; return them, not yet published."""
        tables = dict(self._tables)
        numbers = np.array([int(text, 16) for text in ids], np.uint64)
        for name in names:
            if name in tables and self._columns is not None:
                rows = np.flatnonzero(np.isin(self._columns.tables[name].ids, numbers))
                if len(rows):
                    tables[name] = self._store.delete(name, tables[name], OWNER_COLUMNS[name], ids)
                    self._flat.kill(name, rows)
        return tables

    def with_exemplars(self, exemplars: ExemplarSet | None, dim: int) -> dict[str, TableRecord]:
        """Write tables with these exemplars only; return them, not yet published."""
        batches = () if exemplars is None else exemplar_batches(exemplars, {}, dim)
        self._flat.drop("exemplars")
        table = self._replace("exemplars", self._tables.get("exemplars"), batches)
        others = {name: record for name, record in self._tables.items() if name != "exemplars"}
        return others if table is None else {**others, "exemplars": table}

    def rewritten(self) -> dict[str, TableRecord]:
        """Write tables of an earlier release in today's schema; return them, not yet published."""
        tables = {}
        for name, record in self._tables.items():
            columns = schema(name, self._dim)
            rows = as_stored(self._store.scan(name, record, columns.names), columns)
            table = self._replace(name, record, rows)
            if table is not None:
                tables[name] = table
        return tables

    def finish_copy(self, manifest: Manifest) -> None:
        """Bring the flat copy of the written tables to the disk, so that they can be read before they are published."""
        if not self._copy_is_finished:
            self._flat.finish(manifest)
            self._copy_is_finished = True

    def publish(self, manifest: Manifest) -> Manifest:
        """Write MEMORY.json with the next version; return the manifest with that version.

        Only then are the journal and the files of earlier versions deleted, but for the version before this one, which
        others may be reading.
        """
        published = replace(manifest, version=self.next_version)
        self.finish_copy(published)
        self._may_be_published = True  # an interrupt does not say
        try:
            write_manifest(self._directory, published)
        except WriteFailed:
            self._may_be_published = False
            raise
        with contextlib.suppress(OSError):  # published all the same; the next writer deletes what stayed
            remove_journal(self._directory)
            self._store.sweep(TABLES, self._tables, published.tables)
            self._flat.sweep()
        return published

    def _replace(self, name: str, table: TableRecord | None, rows: Iterable[pa.RecordBatch]) -> TableRecord | None:
        """Write a new version of a table that holds only these rows; return None when there are no rows."""
        self._flat.restart(name)
        return self._store.replace(name, table, schema(name, self._dim), self._flat.copying(name, rows))

    def _extend(self, name: str, table: TableRecord | None, rows: Iterable[pa.RecordBatch]) -> TableRecord | None:
        """Append rows to a table; a table of many files is rewritten with them into one file."""
        columns = schema(name, self._dim)
        if table is None:
            return self._replace(name, None, rows)
        copied = self._flat.copying(name, rows)
        if len(table.files) < MAX_TABLE_FILES:
            first = next(copied, None)
            return table if first is None else self._store.append(name, table, columns, chain([first], copied))
        current = self._store.scan(name, table, columns.names)
        return self._store.replace(name, table, columns, chain(current, copied))

    def _encode(
        self, texts: BuildTexts, encoder: TextEncoder, progress: Progress | None
    ) -> tuple[VectorSource, BuildReport]:
        card = encoder.card
        published = PublishedVectors(self._columns, texts.groups())
        distinct = DistinctTexts(texts.groups(), published, card, self._directory)
        # A vector that is stored as it comes from the encoder is rounded to fp16 anyway.
        journal = VectorJournal(self._directory, card.dim, np.float32 if distinct.are_averaged else np.float16)
        encoded = encode_missing(distinct, encoder, journal, progress)
        report = BuildReport(
            categories=len(texts.categories),
            descriptions=0,
            texts_encoded=encoded,
            texts_reused=len(distinct) - encoded,
            texts_truncated=distinct.count_truncated(encoder),
            seconds=0.0,
        )
        return VectorSource(card, published, journal), report

    @staticmethod
    def _batches(
        texts: BuildTexts,
        exemplars: ExemplarSet | None,
        exemplar_counts: Mapping[str, int],
        card: EncoderCard,
        source: VectorSource,
    ) -> dict[str, Iterable[pa.RecordBatch]]:
        return {
            "categories": category_batches(texts, card.dim, source.vectors_of),
            "descriptions": description_batches(texts, card.dim, source.vectors_of),
            "exemplars": () if exemplars is None else exemplar_batches(exemplars, exemplar_counts, card.dim),
        }

    def _files(self) -> set[str]:
        return {file for name in TABLES for file in self._store.files(name)}

    def _finished(self, report: BuildReport, descriptions: int) -> BuildReport:
        return replace(report, descriptions=descriptions, seconds=time.monotonic() - self._started)


def _negative_batches(
    negatives: NegativeLabels,
    texts: BuildTexts,
    categories: Sequence[Category],
    card: EncoderCard,
    source: VectorSource,
) -> Iterable[pa.RecordBatch]:
    """Choose the negative labels, and return the rows of their table.

    Args:
        negatives: the candidates.
        texts: of the build.
        categories: all that the memory will have.
        card: of the encoder.
        source: of the vectors of `texts`.
    """
    chosen = negatives.choose(categories)
    return negative_batches(negatives.names, texts.negatives, chosen, card.dim, source.vectors_of)


def check_exemplars(exemplars: ExemplarSet | None, ids: Iterable[str], card: EncoderCard) -> ExemplarSet | None:
    """Check exemplars against their categories and their encoder, and round them; None when there are none.

    Raises:
        BadVectors: a vector is not a finite unit row of the encoder's dimension.
        MemoryStoreError: an exemplar of a category that is not in ``ids``.
    """
    if exemplars is None or not len(exemplars.category_ids):
        return None
    unknown = sorted(set(exemplars.category_ids) - set(ids))
    if unknown:
        raise MemoryStoreError(
            f"there are exemplars of category id {unknown[0]!r}, which is not among the categories. "
            "Add the category, or leave its exemplars out."
        )
    vectors = check_unit_rows(
        np.asarray(exemplars.vectors), [str(r) for r in exemplars.references], card.dim, "the exemplar set"
    )
    return replace(exemplars, vectors=rounded(vectors))


def check_same_encoder(manifest: Manifest, card: EncoderCard) -> None:
    """Raise EncoderMismatch when another encoder made the memory."""
    maker = manifest.encoder
    if maker.fingerprint != card.fingerprint or maker.dim != card.dim:
        raise EncoderMismatch(
            f"this memory was made by the encoder {maker.name!r} ({maker.fingerprint[:12]}, {maker.dim} "
            f"dimensions), not by {card.name!r} ({card.fingerprint[:12]}, {card.dim} dimensions). "
            "Use the encoder that made it, or build the memory again with the other one."
        )


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they will be read back.

    Raises:
        ValueError: a value cannot be written as JSON.
    """
    try:
        return dict(json.loads(json.dumps(dict(settings), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the settings of a memory must be JSON: {error}") from error
