"""The memory: categories, their descriptions and vectors, in a directory."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TextIO

from memory.build import BuildReport, MemoryWriter, check_exemplars, check_same_encoder, checked_settings
from memory.category import Category
from memory.columns import MemoryColumns
from memory.content import content_after
from memory.durable import WriterLock
from memory.encode import Progress
from memory.encoder_card import EncoderCard, TextEncoder
from memory.errors import MemoryDamaged, MemoryStoreError, printable_path
from memory.export import export_memory
from memory.flat.reader import stored_columns, stored_vectors
from memory.info import MemoryInfo
from memory.integrity import check_rows, open_checked
from memory.manifest import SCHEMA, Manifest, read_manifest, with_settings
from memory.merging import merge_categories
from memory.negatives import NegativeLabels
from memory.publication import build_tables
from memory.recovery import make_room, prepare_directory, repair
from memory.remote.address import is_address
from memory.remote.addressed import at_addresses
from memory.search import KINDS, Fold, IndexKind, MemoryIndex, choose_kind, follow_index, publish_figures, used_index
from memory.templates import check_templates
from memory.upgrade import writable
from memory.vectors import ExemplarSet, MemoryVectors
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
        from memory.labels.read import Labels  # who opens a memory reads no labels

        merged = merge_categories(categories.categories if isinstance(categories, Labels) else categories)
        if not merged:
            raise ValueError("a memory needs at least one category")
        fold = fold or Fold()
        if index == "auto":
            index = choose_kind(len(merged), encoder.card.dim * (2 if fold.has_regions else 1))
        if index not in KINDS:
            raise ValueError(f"index {index!r} is none of auto, {', '.join(KINDS)}")
        final_templates = check_templates(templates)
        new_settings = checked_settings(settings) if settings is not None else None
        examples = check_exemplars(exemplars, (category.id for category in merged), encoder.card)
        prepare_directory(path)
        with WriterLock(path):
            manifest, report = build_tables(
                path,
                merged,
                examples,
                encoder=encoder,
                templates=final_templates,
                settings=new_settings,
                negatives=negatives,
                index=index,
                fold=fold,
                progress=progress,
            )
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
            added = {category.id for category in merged}
            known = columns.categories_of(added)
            ids = added | columns.hexadecimal_ids() if exemplars is not None else ()
            examples = check_exemplars(exemplars, ids, encoder.card)
            replaced = sorted(known)
            united = merge_categories([*(known[i] for i in replaced), *merged])
            with self._writer(columns) as writer:
                tables, report = writer.put(united, replaced, examples, self._manifest, encoder, progress, negatives)
                content = content_after(self._manifest.content, united, known.values(), negatives)
                self._publish(writer, columns, tables, content if examples is None else {}, replaced, added)
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
                    self._publish(writer, columns, writer.without(sorted(removed)), {} if other else content, removed)
        return list(removed.values())

    def replace_exemplars(self, exemplars: ExemplarSet | None) -> None:
        """Hold these exemplars, by the memory's encoder, instead of the present ones; errors are those of ``build``."""
        with WriterLock(self.directory):
            self._refresh()
            columns = self._writable_columns()
            checked = check_exemplars(exemplars, columns.hexadecimal_ids(), self.encoder)
            with self._writer(columns) as writer:
                self._publish(writer, columns, writer.with_exemplars(checked, self.encoder.dim), {})

    def store_settings(self, settings: Mapping[str, Any]) -> None:
        """Store other settings with the memory, which must be JSON; its tables and its version stay."""
        with WriterLock(self.directory):
            self._refresh()
            self._manifest = with_settings(self.directory, self._manifest, checked_settings(settings))

    def index(self, fold: Fold | None = None, *, anew: bool = False) -> MemoryIndex:
        """Return what the memory is searched with: exact search, or the approximate index it was built with.

        An index that belongs to other tables or to another fold, or is damaged, is built again, and stored where the
        directory can be written. One that does not find enough is refused: then search is exact from now on.

        Args:
            fold: weights of names and descriptions, by default equal.
            anew: build it again in any case: searching it has raised DamagedBlock.
        """
        index, self._manifest = used_index(self.directory, self.vectors, self._manifest, fold or Fold(), anew=anew)
        return index

    def store_index_figures(self, index: MemoryIndex) -> None:
        """Store `depth` and `figures` of an index of this memory, as its user measured them, where that is possible."""
        self._manifest = publish_figures(self.directory, self._manifest, index)

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

    def _publish(
        self,
        writer: MemoryWriter,
        columns: MemoryColumns,
        tables: Mapping[str, Any],
        content: Mapping[str, str],
        changed: Iterable[str] = (),
        added: Iterable[str] = (),
    ) -> None:
        """Publish tables, and let the index follow; `changed` and `added` are ids of categories."""
        before = self._manifest
        removed = columns.rows_of(changed)
        self._use(writer.publish(replace(before, tables=tables, content=content, schema=SCHEMA)))
        if self.index_kind != "exact":
            now = stored_columns(self.directory, self._manifest, ("categories",))
            follow_index(self.directory, before, self._manifest, removed, now.rows_of(added))
