"""The memory: categories, their descriptions and vectors, in a directory."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

from memory.build import BuildReport, MemoryWriter, check_exemplars, check_same_encoder, checked_settings
from memory.category import Category, merge_categories
from memory.columns import MemoryColumns
from memory.content import content_after, content_of, is_built
from memory.durable import WriterLock
from memory.encode import Progress
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import MemoryDamaged, MemoryLocked, MemoryStoreError, printable_path
from memory.export import export_memory
from memory.flat.reader import read_flat, stored_columns, stored_vectors
from memory.info import MemoryInfo
from memory.integrity import check_rows, open_checked
from memory.manifest import SCHEMA, IndexRecord, Manifest, read_manifest, with_settings, write_manifest
from memory.negatives import NegativeLabels
from memory.recovery import make_room, prepare_directory, published_manifest, repair, reusable_columns, usable_tables
from memory.remote.address import is_address
from memory.remote.addressed import at_addresses
from memory.search import INDEX_FOLDER, Fold, MemoryIndex, build_hnsw, exact_index, index_tables, load_hnsw, save_hnsw
from memory.templates import check_templates
from memory.upgrade import writable
from memory.vectors import ExemplarSet, MemoryVectors
from memory.verify import Finding, verify_memory

IndexKind: TypeAlias = Literal["exact", "hnsw"]


class Memory:
    """A memory of categories. ``Memory.open`` and ``Memory.build`` return one.

    Attributes:
        directory: where it is, or its mirror of an object store.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Take a checked manifest; for ``open`` and ``build``."""
        self.directory = directory
        self._manifest = manifest
        self._vectors: MemoryVectors | None = None
        self._report: BuildReport | None = None

    @classmethod
    def open(cls, directory: str | Path) -> Memory:
        """Open a memory, and check all of its files against its MEMORY.json.

        Args:
            directory: or its address on an object store, such as ``s3://bucket/birds``.

        Raises:
            MemoryNotFound: there is none.
            MemoryDamaged: a file is missing or changed; the message says what to do.
            SchemaTooNew: a newer release wrote it.
            ObjectStoreError: the store does not answer or refuses.
        """
        if is_address(directory):
            from memory.remote.memory import RemoteMemory

            return RemoteMemory.open_at(str(directory))
        path = Path(directory)
        return cls(path, open_checked(path))

    @classmethod
    @at_addresses
    def build(
        cls,
        categories: Iterable[Category],
        directory: str | Path,
        *,
        encoder: TextEncoder,
        templates: Sequence[str],
        settings: Mapping[str, Any] | None = None,
        exemplars: ExemplarSet | None = None,
        negatives: NegativeLabels | None = None,
        index: IndexKind = "exact",
        fold: Fold | None = None,
        progress: Progress | None = None,
    ) -> Memory:
        """Build a memory, or build it again: afterwards it holds these categories only.

        Vectors of a memory that is there already, and those of an interrupted build, are used again where encoder and
        texts are the same. A kill at any moment leaves the memory as it was, or the new one.

        Args:
            categories: at least one; those of equal name and group are merged.
            directory: a new or empty folder, or a memory; or an address on an object store.
            encoder: encodes the texts whose vectors are not known yet.
            templates: texts with ``{}`` or ``{c}`` for the name.
            settings: free JSON; None keeps the settings of a memory by the same encoder.
            exemplars: example images, or None.
            negatives: candidates for negative labels, or None.
            index: "exact", or "hnsw" for approximate search, whose recall is then measured.
            fold: weights of names and descriptions in approximate search, by default equal.
            progress: called with texts encoded so far and texts to encode.

        Returns:
            The memory, opened; its ``report`` says what the build did.

        Raises:
            MemoryLocked: another process is writing to it.
            BadVectors: the encoder's vectors cannot be stored.
            MemoryStoreError: the folder cannot be used.
            ValueError: no category, a template without a placeholder, or settings that are not JSON.
        """
        path, started = Path(directory), time.monotonic()
        merged = merge_categories(categories)
        if not merged:
            raise ValueError("a memory needs at least one category")
        if index not in ("exact", "hnsw"):
            raise ValueError(f"index {index!r} is neither 'exact' nor 'hnsw'")
        final_templates = check_templates(templates)
        new_settings = checked_settings(settings) if settings is not None else None
        examples = check_exemplars(exemplars, {category.id for category in merged}, encoder.card)
        prepare_directory(path)
        with WriterLock(path):
            before = published_manifest(path)
            tables = usable_tables(path, before)
            make_room(path, before, tables)
            content = content_of(merged, examples, negatives)
            fold_key = (fold or Fold()).key if index != "exact" else ""
            version = 1 if before is None else before.version + 1
            wanted = Manifest(version, encoder.card, final_templates, {}, {}, IndexRecord(index, fold_key), content)
            if before is not None and is_built(before, wanted, tables) and read_flat(path, before) is not None:
                memory = cls(path, with_settings(path, before, new_settings))
                descriptions, seconds = before.rows("descriptions"), time.monotonic() - started
                memory._report = BuildReport(len(merged), descriptions, 0, 0, 0, seconds, unchanged=True)
                return memory
            columns = reusable_columns(path, before, tables, encoder.card)
            with MemoryWriter(path, encoder.card.dim, tables, before, columns) as writer:
                new_tables, report = writer.replace_all(merged, examples, final_templates, encoder, progress, negatives)
                if new_settings is None:
                    same_encoder = before is not None and before.encoder.fingerprint == encoder.card.fingerprint
                    new_settings = dict(before.settings) if before is not None and same_encoder else {}
                manifest = replace(wanted, settings=new_settings, tables=new_tables, index=IndexRecord(index))
                writer.finish_copy(manifest)
                if index == "hnsw":
                    manifest, recall = index_tables(path, manifest, fold or Fold())
                    report = replace(report, ann_recall=recall)
                manifest = writer.publish(manifest)
            if index == "exact":
                shutil.rmtree(path / INDEX_FOLDER, ignore_errors=True)
        memory = cls(path, manifest)
        memory._report = report
        return memory

    @staticmethod
    def repair(directory: str | Path) -> list[str]:
        """Restore what can be restored of a damaged memory; see ``memory.recovery.repair``."""
        if is_address(directory):
            from memory.remote.memory import repair_mirror

            return repair_mirror(str(directory))
        return repair(Path(directory))

    @property
    def location(self) -> str | Path:
        """The directory, or the address on an object store, by which the memory is opened again."""
        return self.directory

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the directory to write files beside the tables into; an address gets them afterwards."""
        yield self.directory

    @property
    def report(self) -> BuildReport:
        """What the last ``build`` or ``add`` through this object did.

        Raises:
            ValueError: the memory was opened, and nothing was added.
        """
        if self._report is None:
            raise ValueError("a memory that was only opened has no build report; `build` and `add` make one")
        return self._report

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
    def settings(self) -> dict[str, Any]:
        """A copy of the free JSON that ``build`` stored with the memory."""
        return copy.deepcopy(dict(self._manifest.settings))

    @property
    def version(self) -> int:
        """Grows by one with every change of the tables."""
        return self._manifest.version

    @property
    def digest(self) -> str:
        """A hash over the content of the tables, by which two memories of the same version are told apart."""
        return self._manifest.tables_digest()

    @property
    def index_kind(self) -> str:
        """How the memory is searched: "exact" or "hnsw"."""
        return self._manifest.index.kind

    @property
    def vectors(self) -> MemoryVectors:
        """All vectors, read at the first use.

        Raises:
            MemoryDamaged: a file has been damaged since the memory was opened.
            MemoryStoreError: it has been written twice since it was opened, and this version has been deleted.
        """
        if self._vectors is None:
            try:
                self._vectors = stored_vectors(self.directory, self._manifest)
            except (MemoryDamaged, RuntimeError, ValueError, OSError) as error:
                check_rows(self.directory, open_checked(self.directory, whole=True))
                raise MemoryStoreError(
                    f"version {self.version} of {printable_path(self.directory)} can no longer be read; "
                    "it has been rewritten since. Open the memory again."
                ) from error
        return self._vectors

    def bare_categories(self) -> Sequence[Category]:
        """Return the categories without descriptions and exemplars, sorted by id; no vectors are read for it."""
        return stored_columns(self.directory, self._manifest, ("categories",)).categories(bare=True)

    def add(
        self,
        categories: Iterable[Category],
        *,
        encoder: TextEncoder,
        exemplars: ExemplarSet | None = None,
        negatives: NegativeLabels | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Add categories, or further descriptions and exemplars of categories; ``report`` says what was done.

        Args:
            categories: at least one.
            encoder: the encoder that made the memory.
            exemplars: further example images, of categories of the memory or of ``categories``.
            negatives: candidates for negative labels, chosen again for all categories; None drops those of the memory,
                for one of them may be a new category.
            progress: called with texts encoded so far and texts to encode.

        Raises:
            EncoderMismatch: another encoder made the memory.
            MemoryLocked, BadVectors, ValueError: as for ``build``.
        """
        merged = merge_categories(categories)
        if not merged:
            raise ValueError("there is no category to add")
        with WriterLock(self.directory):
            self._refresh()
            check_same_encoder(self._manifest, encoder.card)
            columns = self._writable_columns()
            known = columns.categories_of(category.id for category in merged)
            ids = {c.id for c in merged} | columns.hexadecimal_ids() if exemplars is not None else ()
            examples = check_exemplars(exemplars, ids, encoder.card)
            replaced = sorted(known)
            united = merge_categories([*(known[i] for i in replaced), *merged])
            with self._writer(columns) as writer:
                tables, report = writer.put(united, replaced, examples, self._manifest, encoder, progress, negatives)
                content = content_after(self._manifest.content, united, known.values(), negatives)
                self._publish(writer, tables, content if examples is None else {})
        self._report = report

    def remove(self, names_or_ids: Iterable[str]) -> list[Category]:
        """Remove categories with their descriptions and exemplars; negative labels stay as they were chosen.

        Args:
            names_or_ids: exact names, or ids; a name that is in several groups needs its id.

        Returns:
            The removed categories.

        Raises:
            UnknownCategory: a name or id matches no category or several; then nothing is removed.
            MemoryLocked: another process is writing.
        """
        if isinstance(names_or_ids, str):
            raise ValueError(f"names must be a list of texts, not the single text {names_or_ids!r}")
        with WriterLock(self.directory):
            self._refresh()
            columns = self._writable_columns()
            removed = {c.id: c for c in map(columns.matching, names_or_ids)}
            if removed:
                with self._writer(columns) as writer:
                    # A build would choose the negative labels again, and would have fewer exemplars.
                    other = self._manifest.rows("negatives") or any(c.exemplars for c in removed.values())
                    content = content_after(self._manifest.content, (), removed.values(), None)
                    self._publish(writer, writer.without(sorted(removed)), {} if other else content)
        return list(removed.values())

    def replace_exemplars(self, exemplars: ExemplarSet | None) -> None:
        """Hold these exemplars, by the memory's encoder, instead of the present ones; errors are those of ``build``."""
        with WriterLock(self.directory):
            self._refresh()
            columns = self._writable_columns()
            checked = check_exemplars(exemplars, columns.hexadecimal_ids(), self.encoder)
            with self._writer(columns) as writer:
                self._publish(writer, writer.with_exemplars(checked, self.encoder.dim), {})

    def store_settings(self, settings: Mapping[str, Any]) -> None:
        """Store other settings with the memory, which must be JSON; its tables and its version stay."""
        with WriterLock(self.directory):
            self._refresh()
            self._manifest = with_settings(self.directory, self._manifest, checked_settings(settings))

    def index(self, fold: Fold | None = None) -> MemoryIndex:
        """Return what the memory is searched with: exact search, or the approximate indexes it was built with.

        Approximate indexes that belong to other tables or to another fold, or are damaged, are built again, and stored
        where the directory can be written.

        Args:
            fold: weights of names and descriptions in category search, by default equal.
        """
        fold = fold or Fold()
        if self.index_kind == "exact":
            return exact_index(self.vectors, fold)
        index = load_hnsw(self.directory, self.vectors, self._manifest, fold)
        if index is None:
            index = build_hnsw(self.vectors, fold)
            self._store_index(index, fold)
        return index

    def verify(self) -> list[Finding]:
        """Check everything; see ``memory.verify.verify_memory``."""
        return verify_memory(self.directory, self._manifest)

    def info(self) -> MemoryInfo:
        """Return what the memory holds."""
        return replace(MemoryInfo.of(self.directory, self._manifest), directory=str(self.location))

    def export(self, stream: TextIO, vectors: bool = False) -> None:
        """Write the content as JSON lines, which ``read_labels`` reads; see ``export_memory``."""
        export_memory(self.vectors, stream, vectors=vectors)

    def _writable_columns(self) -> MemoryColumns:
        """Return the columns of all tables, which are those of this release afterwards; only under the lock."""
        manifest, columns = writable(self.directory, self._manifest)
        self._use(manifest)
        return columns

    def _writer(self, columns: MemoryColumns) -> MemoryWriter:
        return MemoryWriter(self.directory, self.encoder.dim, self._manifest.tables, self._manifest, columns)

    def _use(self, manifest: Manifest) -> None:
        """Use other tables from now on."""
        self._manifest = manifest
        self._vectors = None

    def _refresh(self) -> None:
        """Load what other processes have published, and clear away unfinished writes; only under the lock."""
        current = read_manifest(self.directory)
        if current.tables_digest() != self._manifest.tables_digest():
            self._use(open_checked(self.directory))
        else:
            self._manifest = current
        make_room(self.directory, self._manifest, self._manifest.tables)

    def _publish(self, writer: MemoryWriter, tables: Mapping[str, Any], content: Mapping[str, str]) -> None:
        index = replace(self._manifest.index, recall={})  # it was measured on the earlier tables
        manifest = replace(self._manifest, tables=tables, index=index, content=content, schema=SCHEMA)
        self._use(writer.publish(manifest))

    def _store_index(self, index: MemoryIndex, fold: Fold) -> None:
        """Store rebuilt indexes and their recall; only in this object when another process writes or none may."""
        record = IndexRecord(self.index_kind, fold.key, dict(index.recall))
        try:
            with WriterLock(self.directory, wait_seconds=0.0):
                current = read_manifest(self.directory)
                if current.tables_digest() == self._manifest.tables_digest():
                    save_hnsw(self.directory, index, current, fold)
                    self._manifest = replace(current, index=record)
                    write_manifest(self.directory, self._manifest)
        except (OSError, MemoryLocked, MemoryStoreError):
            self._manifest = replace(self._manifest, index=record)
