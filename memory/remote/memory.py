"""The memory at an address: `memory.Memory.open` and `memory.Memory.build` return it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memory.category import Category
from memory.encode import Progress
from memory.encoder_card import TextEncoder
from memory.errors import MemoryDamaged, MemoryNotFound
from memory.integrity import open_checked
from memory.manifest import MANIFEST_NAME, Manifest, read_manifest
from memory.memory import Memory
from memory.negatives import NegativeLabels
from memory.remote.address import Address, is_address
from memory.remote.snapshots import Snapshots
from memory.remote.writer import writing
from memory.vectors import ExemplarSet, MemoryVectors
from memory.wording import counted


class RemoteMemory(Memory):
    """A memory on an object store, read and written in its mirror.

    Each change is published on its own; where that fails, this object holds what it held before.
    """

    def __init__(self, snapshots: Snapshots, directory: Path, manifest: Manifest) -> None:
        """Take a checked directory of the mirror; for ``open_at`` and ``build_at``."""
        super().__init__(directory, manifest)
        self._snapshots = snapshots

    @classmethod
    def open_at(cls, location: str) -> RemoteMemory:
        """Open the memory at an address; see ``Memory.open``.

        Raises:
            ObjectStoreError: the store does not answer or refuses.
            MemoryNotFound, MemoryDamaged, SchemaTooNew: as for ``Memory.open``.
        """
        snapshots = Snapshots(Address.parse(location))
        directory = _require(snapshots, snapshots.refresh().directory)
        try:
            manifest = open_checked(directory)
        except (MemoryDamaged, MemoryNotFound):
            # Files of the cache were changed: those that are not as published are fetched again.
            directory = _require(snapshots, snapshots.refresh(whole=True).directory)
            manifest = open_checked(directory)
        return cls(snapshots, directory, manifest)

    @classmethod
    def build_at(cls, location: str, build: Callable[[Path], Memory]) -> RemoteMemory:
        """Build a memory at an address.

        Args:
            location: the address.
            build: builds it in a directory.

        Raises:
            PublishedMeanwhile: another writer was first.
            ObjectStoreError: the store does not answer or refuses.
            MemoryStoreError: as for ``Memory.build``.
        """
        snapshots = Snapshots(Address.parse(location))
        with writing(snapshots) as directory:
            built = build(directory)
        newest = _require(snapshots, snapshots.current().directory)
        memory = cls(snapshots, newest, read_manifest(newest))
        memory._report = built.report
        return memory

    @property
    def location(self) -> str:
        """The address."""
        return str(self._snapshots.address)

    @property
    def vectors(self) -> MemoryVectors:
        """All vectors; see ``Memory.vectors``. A file of the mirror that has been damaged is fetched again."""
        try:
            return super().vectors
        except MemoryDamaged:
            directory = _require(self._snapshots, self._snapshots.refresh(whole=True).directory)
            if open_checked(directory).tables_digest() != self.digest:
                raise
            self.directory = directory
        return super().vectors

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield a directory that holds the newest version, and publish what it then holds."""
        before = self.directory, self._manifest, self._vectors
        try:
            with writing(self._snapshots) as directory:
                self.directory = directory
                yield directory
        except BaseException:
            self.directory, self._manifest, self._vectors = before
            raise
        self.directory = _require(self._snapshots, self._snapshots.current().directory)

    def add(
        self,
        categories: Iterable[Category],
        *,
        encoder: TextEncoder,
        exemplars: ExemplarSet | None = None,
        negatives: NegativeLabels | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Add categories and publish; see ``Memory.add``."""
        with self.writing():
            super().add(categories, encoder=encoder, exemplars=exemplars, negatives=negatives, progress=progress)

    def remove(self, names_or_ids: Iterable[str]) -> list[Category]:
        """Remove categories and publish; see ``Memory.remove``."""
        with self.writing():
            return super().remove(names_or_ids)

    def replace_exemplars(self, exemplars: ExemplarSet | None) -> None:
        """Replace the exemplars and publish; see ``Memory.replace_exemplars``."""
        with self.writing():
            super().replace_exemplars(exemplars)

    def store_settings(self, settings: Mapping[str, Any]) -> None:
        """Store settings and publish; see ``Memory.store_settings``."""
        with self.writing():
            super().store_settings(settings)


def local_copy(location: str | Path) -> Path:
    """Return the directory in which a memory can be read: itself, or that of its mirror, brought up to date.

    Where there is no memory at an address, the directory does not exist.
    """
    if not is_address(location):
        return Path(location)
    snapshots = Snapshots(Address.parse(str(location)))
    return snapshots.refresh().directory or snapshots.folder / "none"


def repair_mirror(location: str) -> list[str]:
    """Check the mirror of an address file by file, and fetch again what is not as published.

    Returns:
        A sentence for each thing done.

    Raises:
        MemoryNotFound, MemoryDamaged: there is no memory at the address, or what is there is damaged; only a build
            mends that.
        ObjectStoreError: the store does not answer or refuses.
    """
    snapshots = Snapshots(Address.parse(location))
    manifest = open_checked(_require(snapshots, snapshots.refresh(whole=True).directory))
    files = sum(len(table.files) for table in manifest.tables.values())
    return [f"{location}: intact; {counted(files, 'file')} in {snapshots.folder} as published"]


def _require(snapshots: Snapshots, directory: Path | None) -> Path:
    if directory is None:
        raise MemoryNotFound(
            f"there is no memory at {snapshots.address} (no {MANIFEST_NAME} below it). "
            "Check the address, or build one: recognizer build LABELS --memory ADDRESS"
        )
    return directory
