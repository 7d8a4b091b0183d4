"""The memory: categories, their descriptions and vectors, in a directory."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TextIO

from memory.build import BuildReport, MemoryWriter, check_exemplars, check_same_encoder, checked_settings
from memory.category import Category, matching_category, merge_categories
from memory.durable import WriterLock
from memory.encode import Progress
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import MemoryLocked, MemoryStoreError, printable_path
from memory.export import export_memory
from memory.flat import read_flat
from memory.info import MemoryInfo
from memory.integrity import check_rows, open_checked
from memory.manifest import IndexRecord, Manifest, read_manifest, write_manifest
from memory.negatives import NegativeLabels
from memory.recovery import make_room, prepare_directory, published_manifest, repair, usable_tables
from memory.remote.address import is_address
from memory.remote.addressed import at_addresses
from memory.search import (
    ASKED_RECALL,
    INDEX_FOLDER,
    KINDS,
    Fold,
    IndexKind,
    MemoryIndex,
    choose_kind,
    current_index,
    exact_index,
    follow_index,
    make_index,
    refusal,
    settle_index,
    store_figures,
)
from memory.store import TableStore
from memory.tables import TABLES, TableReader, load_bare_categories, load_vectors
from memory.templates import check_templates
from memory.vectors import ExemplarSet, MemoryVectors, category_rows
from memory.verify import Finding, verify_memory


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
        index: IndexKind | Literal["auto"] = "exact",
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
            index: "exact"; "hnsw", "ivf" or "lance" for approximate search, whose recall is then measured; "auto" by
                the number of categories and the machine.
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
        path = Path(directory)
        merged = merge_categories(categories)
        if not merged:
            raise ValueError("a memory needs at least one category")
        fold = fold or Fold()
        if index == "auto":
            index = choose_kind(len(merged), encoder.card.dim * (2 if fold.has_regions else 1))
        if index not in KINDS:
            raise ValueError(f"index {index!r} is none of auto, {', '.join(KINDS)}")
        final_templates = check_templates(templates)
        new_settings = checked_settings(settings) if settings is not None else None
        examples = check_exemplars(exemplars, {category.id for category in merged}, encoder.card)
        prepare_directory(path)
        with WriterLock(path):
            before = published_manifest(path)
            tables = usable_tables(path, before)
            make_room(path, before, tables)
            with MemoryWriter(path, tables, 0 if before is None else before.version) as writer:
                new_tables, report = writer.replace_all(merged, examples, final_templates, encoder, progress, negatives)
                if new_settings is None:
                    same_encoder = before is not None and before.encoder.fingerprint == encoder.card.fingerprint
                    new_settings = dict(before.settings) if before is not None and same_encoder else {}
                manifest = Manifest(
                    writer.next_version, encoder.card, final_templates, new_settings, new_tables, IndexRecord(index)
                )
                manifest = writer.publish(manifest)
            memory = cls(path, manifest)
            if index == "exact":
                shutil.rmtree(path / INDEX_FOLDER, ignore_errors=True)
            else:
                memory._manifest, recall = settle_index(path, memory.vectors, manifest, fold)
                problem = refusal(index) if memory.index_kind == "exact" else ""
                report = replace(report, ann_recall=recall, index_problem=problem)
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
        """How the memory is searched: "exact", "hnsw", "ivf" or "lance"."""
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
                self._vectors = self._load(self._reader())
            except (RuntimeError, ValueError, OSError) as error:
                check_rows(self.directory, open_checked(self.directory))
                raise MemoryStoreError(
                    f"version {self.version} of {printable_path(self.directory)} can no longer be read; "
                    "it has been rewritten since. Open the memory again."
                ) from error
        return self._vectors

    def bare_categories(self) -> list[Category]:
        """Return the categories without descriptions and exemplars, sorted by id; no vectors are read for it."""
        if self._vectors is not None:
            return [replace(category, descriptions=(), exemplars=()) for category in self._vectors.categories]
        return load_bare_categories(self._reader(("categories",)), self._manifest.tables)

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
            known = {category.id: category for category in self.vectors.categories}
            added = {category.id for category in merged}
            examples = check_exemplars(exemplars, added | known.keys(), encoder.card)
            replaced = sorted(added & known.keys())
            united = merge_categories([*(known[i] for i in replaced), *merged])
            counts = {i: len(category.exemplars) for i, category in known.items()}
            with MemoryWriter(self.directory, self._manifest.tables, self.version) as writer:
                tables, report = writer.put(
                    united, replaced, examples, counts, self._manifest, encoder, progress, negatives, self.vectors
                )
                self._publish(writer, tables, replaced, added)
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
        wanted = list(names_or_ids)
        with WriterLock(self.directory):
            self._refresh()
            removed = {c.id: c for c in (matching_category(self.vectors.categories, text) for text in wanted)}
            if removed:
                with MemoryWriter(self.directory, self._manifest.tables, self.version) as writer:
                    self._publish(writer, writer.without(sorted(removed)), removed)
        return list(removed.values())

    def replace_exemplars(self, exemplars: ExemplarSet | None) -> None:
        """Hold these exemplars, by the memory's encoder, instead of the present ones; errors are those of ``build``."""
        with WriterLock(self.directory):
            self._refresh()
            ids = {category.id for category in self.bare_categories()}
            checked = check_exemplars(exemplars, ids, self.encoder)
            with MemoryWriter(self.directory, self._manifest.tables, self.version) as writer:
                self._publish(writer, writer.with_exemplars(checked, self.encoder.dim))

    def store_settings(self, settings: Mapping[str, Any]) -> None:
        """Store other settings with the memory, which must be JSON; its tables and its version stay."""
        checked = checked_settings(settings)
        with WriterLock(self.directory):
            self._refresh()
            self._manifest = replace(self._manifest, settings=checked)
            write_manifest(self.directory, self._manifest)

    def index(self, fold: Fold | None = None, *, anew: bool = False) -> MemoryIndex:
        """Return what the memory is searched with: exact search, or the approximate index it was built with.

        An index that belongs to other tables or to another fold, or is damaged, is built again, and stored where the
        directory can be written. One that does not find enough is refused: then search is exact from now on.

        Args:
            fold: weights of names and descriptions, by default equal.
            anew: build it again in any case: searching it has raised DamagedBlock.
        """
        fold = fold or Fold()
        index = None if anew else current_index(self.directory, self.vectors, self._manifest, fold)
        if index is not None:
            return index
        try:
            with WriterLock(self.directory, wait_seconds=0.0):
                current = read_manifest(self.directory)
                if current.tables_digest() == self._manifest.tables_digest():
                    self._manifest, _ = settle_index(self.directory, self.vectors, current, fold, anew=anew)
                    index = current_index(self.directory, self.vectors, self._manifest, fold)
        except (OSError, MemoryLocked, MemoryStoreError):  # another process writes, or this one may not
            pass
        if index is None:
            with tempfile.TemporaryDirectory(prefix="memory-index-") as folder:
                index, _ = make_index(self.vectors, fold, self.index_kind, Path(folder) / "rows")
        return index if index.figures.get("search", 1.0) >= ASKED_RECALL else exact_index(self.vectors, fold)

    def store_index_figures(self, index: MemoryIndex) -> None:
        """Store `depth` and `figures` of an index of this memory, as its user measured them, where that is possible."""
        record = IndexRecord(self.index_kind, index.fold.key, dict(index.figures))
        try:
            with WriterLock(self.directory, wait_seconds=0.0):
                current = read_manifest(self.directory)
                if current.tables_digest() == self._manifest.tables_digest():
                    store_figures(self.directory, current, index.depth, index.figures)
                    self._manifest = replace(current, index=record)
                    write_manifest(self.directory, self._manifest)
        except (OSError, MemoryLocked, MemoryStoreError):
            self._manifest = replace(self._manifest, index=record)

    def verify(self) -> list[Finding]:
        """Check everything; see ``memory.verify.verify_memory``."""
        return verify_memory(self.directory, self._manifest, lambda: self._load(TableStore(self.directory)))

    def info(self) -> MemoryInfo:
        """Return what the memory holds."""
        return replace(MemoryInfo.of(self.directory, self._manifest), directory=str(self.location))

    def export(self, stream: TextIO, vectors: bool = False) -> None:
        """Write the content as JSON lines, which ``read_labels`` reads; see ``export_memory``."""
        export_memory(self.vectors, stream, vectors=vectors)

    def _load(self, reader: TableReader) -> MemoryVectors:
        return load_vectors(reader, self._manifest.tables, self.encoder.dim)

    def _reader(self, names: Collection[str] = TABLES) -> TableReader:
        return read_flat(self.directory, self._manifest, names) or TableStore(self.directory)

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

    def _publish(
        self,
        writer: MemoryWriter,
        tables: Mapping[str, Any],
        changed: Collection[str] = (),
        added: Collection[str] = (),
    ) -> None:
        """Publish tables, and let the index follow; `changed` and `added` are ids of categories."""
        before, approximate = self._manifest, self.index_kind != "exact"
        removed = category_rows(self.vectors, changed) if approximate else None
        self._use(writer.publish(replace(before, tables=tables)))
        if removed is not None:
            follow_index(self.directory, before, self._manifest, removed, category_rows(self.vectors, added))
