"""The memory: categories, their descriptions and vectors, in a directory."""

from __future__ import annotations

import difflib
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from memory.build import (
    BuildReport,
    MemoryWriter,
    check_directory,
    check_exemplars,
    check_same_encoder,
    checked_settings,
)
from memory.category import Category, merge_categories
from memory.durable import WriterLock
from memory.encode import Progress
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import (
    MemoryDamaged,
    MemoryLocked,
    MemoryNotFound,
    MemoryStoreError,
    UnknownCategory,
    printable,
    printable_path,
)
from memory.export import export_memory
from memory.integrity import intact_tables, open_checked
from memory.manifest import IndexRecord, Manifest, read_manifest, write_manifest
from memory.search import INDEX_FOLDER, Fold, MemoryIndex, build_hnsw, equal_fold, exact_index, load_hnsw, save_hnsw
from memory.store import TableStore
from memory.tables import load_vectors
from memory.templates import check_templates
from memory.vectors import ExemplarSet, MemoryVectors
from memory.verify import Finding, verify_memory

EQUAL_FOLD_KEY = "equal"
"""Key of the folding that approximate search is built with when none is given."""


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """What a memory holds.

    Attributes:
        directory: where it is.
        version: grows by one with every change of its tables.
        categories: number of categories.
        descriptions: number of descriptions.
        exemplars: number of example images.
        encoder: the encoder that made it.
        templates: the templates that names and descriptions were put into.
        dim: dimension of the vectors.
        bytes_on_disk: size of all files in the directory.
        index: "exact" or "hnsw".
        index_recall: recall@10 of each approximate index against exact search; empty when exact or not measured.
    """

    directory: str
    version: int
    categories: int
    descriptions: int
    exemplars: int
    encoder: EncoderCard
    templates: tuple[str, ...]
    dim: int
    bytes_on_disk: int
    index: str
    index_recall: Mapping[str, float]


class Memory:
    """An opened memory; use ``Memory.open`` or ``Memory.build``.

    Attributes:
        directory: where it is.
        settings: free JSON of the user of the memory; ``save_settings`` stores it.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Take a checked manifest; for ``open``."""
        self.directory = directory
        self.settings: dict[str, Any] = dict(manifest.settings)
        self._manifest = manifest
        self._vectors: MemoryVectors | None = None

    @classmethod
    def open(cls, directory: str | Path) -> Memory:
        """Open a memory and check all of its files against its MEMORY.json.

        Raises:
            MemoryNotFound: there is none.
            MemoryDamaged: it is not what was written; the message says what to do.
            SchemaTooNew: a newer release wrote it.
        """
        path = Path(directory)
        return cls(path, open_checked(path))

    @classmethod
    def build(
        cls,
        categories: Iterable[Category],
        directory: str | Path,
        *,
        encoder: TextEncoder,
        templates: Sequence[str],
        settings: Mapping[str, Any] | None = None,
        exemplars: ExemplarSet | None = None,
        index: Literal["exact", "hnsw"] = "exact",
        fold: Fold = equal_fold,
        fold_key: str = EQUAL_FOLD_KEY,
        progress: Progress | None = None,
    ) -> BuildReport:
        """Build a memory, or build it again: it then holds these categories only.

        Vectors of a memory that is there already, and those of an interrupted build, are used again where encoder and
        texts are the same. A kill at any moment leaves the memory as it was, or the new one.

        Args:
            categories: at least one; those of equal name and group are merged.
            directory: a new or empty folder, or a memory.
            encoder: encodes the texts that are not known yet.
            templates: texts with ``{}`` or ``{c}`` for the name.
            settings: free JSON; None keeps the settings of a memory by the same encoder.
            exemplars: example images; None for none.
            index: "exact", or "hnsw" for approximate search, whose recall is then measured.
            fold: folds the vectors of each category into the one that approximate search compares with.
            fold_key: names the folding; see ``Memory.index``.
            progress: called with texts encoded so far and texts to encode.

        Raises:
            MemoryLocked: another process is writing to it.
            BadVectors: the encoder's vectors cannot be stored.
            MemoryStoreError: the folder cannot be used.
            ValueError: no category, templates without a placeholder, or settings that are not JSON.
        """
        path = Path(directory)
        merged = merge_categories(categories)
        if not merged:
            raise ValueError("a memory needs at least one category")
        if index not in ("exact", "hnsw"):
            raise ValueError(f"index {index!r} is neither 'exact' nor 'hnsw'")
        checked_templates = check_templates(templates)
        stored_settings = None if settings is None else checked_settings(settings)
        examples = check_exemplars(exemplars, (category.id for category in merged), encoder.card)
        check_directory(path)
        with WriterLock(path):
            before = _current(path)
            tables = {} if before is None else intact_tables(path, before)
            writer = MemoryWriter(path, tables, 0 if before is None else before.version)
            written, report = writer.replace_all(merged, examples, checked_templates, encoder, progress)
            if stored_settings is None:
                kept = before is not None and before.encoder.fingerprint == encoder.card.fingerprint
                stored_settings = dict(before.settings) if before is not None and kept else {}
            manifest = Manifest(
                writer.next_version, encoder.card, checked_templates, stored_settings, written, IndexRecord(index)
            )
            if index == "hnsw":
                manifest, recall = _index_tables(path, manifest, fold, fold_key)
                report = replace(report, ann_recall=recall)
            writer.publish(manifest)
            if index == "exact":
                shutil.rmtree(path / INDEX_FOLDER, ignore_errors=True)
        return report

    @property
    def encoder(self) -> EncoderCard:
        """The encoder that made the memory."""
        return self._manifest.encoder

    def require_encoder(self, card: EncoderCard) -> None:
        """Check that an encoder is the one that made the memory.

        Raises:
            EncoderMismatch: it is another one; the message names both.
        """
        check_same_encoder(self._manifest, card)

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates that names and descriptions were put into."""
        return self._manifest.templates

    @property
    def version(self) -> int:
        """Grows by one with every change of the tables."""
        return self._manifest.version

    @property
    def vectors(self) -> MemoryVectors:
        """All vectors, read at the first use.

        Raises:
            MemoryDamaged: files have been damaged since it was opened.
            MemoryStoreError: it has been written twice since it was opened, so that this version is gone.
        """
        if self._vectors is None:
            try:
                self._vectors = load_vectors(TableStore(self.directory), self._manifest.tables, self.encoder.dim)
            except (RuntimeError, ValueError, OSError) as error:
                open_checked(self.directory)
                raise MemoryStoreError(
                    f"version {self.version} of {printable_path(self.directory)} can no longer be read; "
                    "it has been rewritten since. Open the memory again."
                ) from error
        return self._vectors

    def add(
        self,
        categories: Iterable[Category],
        *,
        encoder: TextEncoder,
        exemplars: ExemplarSet | None = None,
        progress: Progress | None = None,
    ) -> BuildReport:
        """Add categories; descriptions of a category that is there already are added to those it has.

        Args:
            categories: what to add.
            encoder: the encoder that made the memory.
            exemplars: example images of categories of the memory or of ``categories``, added to those there are.
            progress: called with texts encoded so far and texts to encode.

        Raises:
            EncoderMismatch: another encoder than the memory's.
            MemoryLocked, BadVectors, ValueError: see ``build``.
        """
        merged = merge_categories(categories)
        if not merged:
            raise ValueError("there is no category to add")
        with WriterLock(self.directory):
            self._refresh()
            check_same_encoder(self._manifest, encoder.card)
            known = {category.id: category for category in self.vectors.categories}
            added = {category.id for category in merged}
            examples = check_exemplars(exemplars, added | known.keys(), encoder.card)
            present = sorted(added & known.keys())
            united = merge_categories([*(known[i] for i in present), *merged])
            writer = MemoryWriter(self.directory, self._manifest.tables, self.version)
            counts = {i: len(category.exemplars) for i, category in known.items()}
            tables, report = writer.put(united, present, examples, counts, self._manifest, encoder, progress)
            self._publish(writer, tables)
        return report

    def remove(self, names_or_ids: Iterable[str]) -> list[Category]:
        """Take categories out, with their descriptions and exemplars.

        Args:
            names_or_ids: names exactly as they are, or ids; a name that stands in several groups needs its id.

        Returns:
            The categories taken out.

        Raises:
            UnknownCategory: a name or id fits no category or several; nothing is taken out then.
            MemoryLocked: another process is writing.
        """
        if isinstance(names_or_ids, str):
            raise ValueError(f"names must be a list of texts, not the single text {names_or_ids!r}")
        wanted = list(names_or_ids)
        with WriterLock(self.directory):
            self._refresh()
            found = {c.id: c for c in (_find(self.vectors.categories, text) for text in wanted)}
            if found:
                writer = MemoryWriter(self.directory, self._manifest.tables, self.version)
                self._publish(writer, writer.without(sorted(found)))
        return list(found.values())

    def save_settings(self, settings: Mapping[str, Any] | None = None) -> None:
        """Store ``settings``, or the memory's own ``settings`` as they are now; only MEMORY.json is written.

        Raises:
            ValueError: they are not JSON.
            MemoryLocked: another process is writing.
        """
        stored = checked_settings(self.settings if settings is None else settings)
        with WriterLock(self.directory):
            self._refresh()
            self._manifest = replace(self._manifest, settings=stored)
            write_manifest(self.directory, self._manifest)
        self.settings = stored

    def index(self, fold: Fold = equal_fold, fold_key: str = EQUAL_FOLD_KEY) -> MemoryIndex:
        """Return what the memory is searched with: exact search, or the approximate index it was built with.

        An approximate index that belongs to other tables or to another folding, or is damaged, is built again, and
        kept on disk where the directory can be written.

        Args:
            fold: gives the (C, D) rows that category search compares with; they need not be unit rows.
            fold_key: names the folding with all its weights; another key means other rows.
        """
        if self._manifest.index.kind == "exact":
            return exact_index(self.vectors, fold)
        index = load_hnsw(self.directory, self.vectors, self._manifest, fold_key)
        if index is None:
            index = build_hnsw(self.vectors, fold)
            self._keep(index, fold_key)
        return index

    def verify(self) -> list[Finding]:
        """Check files, counts, dimensions, unit norms, ids, orphan rows, the fingerprint and the index."""
        return verify_memory(self.directory, self._manifest, lambda: self.vectors)

    def info(self) -> MemoryInfo:
        """Return what the memory holds."""
        manifest = self._manifest
        return MemoryInfo(
            directory=str(self.directory),
            version=manifest.version,
            categories=manifest.rows("categories"),
            descriptions=manifest.rows("descriptions"),
            exemplars=manifest.rows("exemplars"),
            encoder=manifest.encoder,
            templates=manifest.templates,
            dim=manifest.encoder.dim,
            bytes_on_disk=sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file()),
            index=manifest.index.kind,
            index_recall=dict(manifest.index.recall),
        )

    def export(self, stream: TextIO, vectors: bool = False) -> None:
        """Write the content as JSON lines, which ``read_labels`` reads; see ``export_memory``."""
        export_memory(self.vectors, stream, vectors=vectors)

    def _take(self, manifest: Manifest) -> None:
        """Go on with other tables; settings that are not saved yet stay."""
        self._manifest = manifest
        self._vectors = None

    def _refresh(self) -> None:
        """Catch up with what other processes have published since; under the lock."""
        current = read_manifest(self.directory)
        if current.tables_digest() != self._manifest.tables_digest():
            self._take(open_checked(self.directory))
        else:
            self._manifest = current

    def _publish(self, writer: MemoryWriter, tables: Mapping[str, Any]) -> None:
        index = replace(self._manifest.index, recall={})
        self._take(writer.publish(replace(self._manifest, tables=tables, index=index)))

    def _keep(self, index: MemoryIndex, fold_key: str) -> None:
        """Store a rebuilt index and its recall, unless the directory is read-only or has moved on."""
        try:
            with WriterLock(self.directory, wait_seconds=0.0):
                current = read_manifest(self.directory)
                if current.tables_digest() == self._manifest.tables_digest():
                    save_hnsw(self.directory, index, current, fold_key)
                    self._manifest = replace(
                        current, index=IndexRecord(current.index.kind, fold_key, dict(index.recall))
                    )
                    write_manifest(self.directory, self._manifest)
        except (OSError, MemoryLocked, MemoryStoreError):
            self._manifest = replace(
                self._manifest, index=IndexRecord(self._manifest.index.kind, fold_key, dict(index.recall))
            )


def _current(directory: Path) -> Manifest | None:
    try:
        return read_manifest(directory)
    except (MemoryNotFound, MemoryDamaged):
        return None


def _index_tables(directory: Path, manifest: Manifest, fold: Fold, fold_key: str) -> tuple[Manifest, float]:
    """Build the approximate index over tables that are about to be published; returns the lower recall too."""
    vectors = load_vectors(TableStore(directory), manifest.tables, manifest.encoder.dim)
    index = build_hnsw(vectors, fold)
    save_hnsw(directory, index, manifest, fold_key)
    record = IndexRecord("hnsw", fold_key, dict(index.recall))
    return replace(manifest, index=record), min(index.recall.values())


def _find(categories: Sequence[Category], text: str) -> Category:
    for wanted in (text, unicodedata.normalize("NFC", text)):
        hits = [category for category in categories if wanted in (category.name, category.id)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            groups = ", ".join(f"{category.id} (group {printable(category.group)!r})" for category in hits)
            raise UnknownCategory(f"{printable(text)!r} fits {len(hits)} categories; give the id: {groups}.")
    close = difflib.get_close_matches(text[:80], [category.name[:80] for category in categories], n=3)
    hint = f" Similar names: {', '.join(map(repr, map(printable, close)))}." if close else ""
    raise UnknownCategory(f"the memory holds no category {printable(text)!r}.{hint} Give a name as `export` shows it.")
