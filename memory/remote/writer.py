"""Writing a memory on an object store: in a directory of the mirror first, then file by file, and MEMORY.json last.

A conditional request replaces MEMORY.json only if it is still the one that the writer began with. So of two writers one
wins, and a writer that dies at any moment leaves the memory as it was. All other objects have names that no other
writer uses, so what a loser or a dead writer left is no danger; the next one that wins deletes what was there before it
published, but for the files of its own version and of the one before.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memory.durable import FileRecord
from memory.errors import (
    MemoryDamaged,
    MemoryNotFound,
    MemoryStoreError,
    ObjectStoreError,
    PublishedMeanwhile,
    printable,
)
from memory.flat.files import FLAT_FOLDER
from memory.journal import JOURNAL_NAME, is_journal
from memory.manifest import MANIFEST_COPY, MANIFEST_NAME, Manifest, read_manifest
from memory.remote import CALIBRATION
from memory.remote.folders import AddressLock, link_files, link_whole
from memory.remote.objects import Conflict, Content, Unchanged, Version
from memory.remote.side_files import INDEX_LIST, MOST_BYTES, index_list, index_records, read_index_list
from memory.remote.snapshots import Snapshot, Snapshots
from memory.remote.transfer import CONTENT_FOLDER, content_key, is_rewritten, table_files, upload
from memory.search import INDEX_FOLDER
from memory.tables import TABLES

# Objects below these are ours, where there is a memory or the start of one.
_OUR_FOLDERS = (*(f"{table}.lance/" for table in TABLES), f"{CONTENT_FOLDER}/", f"{INDEX_FOLDER}/")


@contextmanager
def writing(snapshots: Snapshots) -> Iterator[Path]:
    """Write the memory of an address: yield a directory that holds its newest version, and publish what it then holds.

    After an error nothing is published, and the directory keeps the journal of a build, which the next one continues.

    Yields:
        The directory, which is this writer's alone. Afterwards it is gone; ``snapshots.current()`` is the newest.

    Raises:
        MemoryLocked: another process of this user writes to the address.
        PublishedMeanwhile: another writer was first.
        ObjectStoreError: the store fails.
        MemoryStoreError: there is no memory at the address, but objects of others.
    """
    place = snapshots.folder / "writer"
    place.mkdir(mode=0o700, exist_ok=True)
    with AddressLock(place, snapshots.address):
        base = snapshots.refresh()
        if base.directory is None:
            _require_room(snapshots)
        directory = _begin(place / "memory", base)
        before = _Content.of(directory)
        yield directory
        _Publication(snapshots, base, before, directory).publish()


@dataclass(frozen=True, slots=True)
class _Content:
    """What a directory holds that is published, beside its indexes.

    Attributes:
        manifest: None: there is no memory in it.
        calibration: the bytes of the file; None: there is none.
    """

    manifest: Manifest | None
    calibration: bytes | None

    @classmethod
    def of(cls, directory: Path) -> _Content:
        try:
            manifest = read_manifest(directory)
        except MemoryNotFound:
            return cls(None, None)
        calibration = directory / CALIBRATION
        return cls(manifest, calibration.read_bytes() if calibration.is_file() else None)


class _Publication:
    """One attempt to publish what a writer's directory holds."""

    def __init__(self, snapshots: Snapshots, base: Snapshot, before: _Content, directory: Path) -> None:
        self._snapshots, self._base, self._before, self._directory = snapshots, base, before, directory
        self._objects = snapshots.objects

    def publish(self) -> None:
        """Upload what is new, and publish it, where anything has changed."""
        now, before = _Content.of(self._directory), self._before
        if now.manifest is None:
            return
        index = index_records(self._directory) if now.manifest.index.kind != "exact" else {}
        listed = self._listed_index()
        if (now, index) == (before, listed):
            return
        versions = dict(self._base.versions)
        if now.manifest != before.manifest:
            versions[MANIFEST_NAME] = self._publish_manifest(now.manifest, {*index.values(), *listed.values()})
        if now.calibration is not None and now.calibration != before.calibration:
            versions[CALIBRATION] = self._objects.put(CALIBRATION, now.calibration)
        versions.setdefault(CALIBRATION, None)
        if index != listed:
            versions[INDEX_LIST] = self._publish_index(index, listed)
        with self._snapshots.locked():
            self._snapshots.adopt(self._directory, versions)

    def _publish_manifest(self, now: Manifest, of_indexes: Set[FileRecord]) -> Version:
        """Upload the files of the tables, replace MEMORY.json, and delete what has become old.

        Args:
            now: what is published.
            of_indexes: files of indexes, which stay.
        """
        objects = self._objects
        if not isinstance(self._published(), Unchanged):
            raise self._lost()  # before gigabytes are uploaded for nothing
        earlier = objects.list_keys()
        files, known = table_files(now), table_files(self._before.manifest)
        new = {path: record for path, record in files.items() if known.get(path) != record}
        rewritten = [path for path in new if is_rewritten(path)]
        # Those first: by them the next writer sees that tables without a MEMORY.json are the start of a build.
        upload(objects, self._directory, [(content_key(new[path]), path) for path in rewritten])
        upload(objects, self._directory, [(path, path) for path in new if not is_rewritten(path)])
        version = self._replace(now.to_bytes())
        with contextlib.suppress(ObjectStoreError):  # published all the same; the next writer does the rest
            upload(objects, self._directory, [(path, path) for path in files if is_rewritten(path)])
            self._sweep(earlier, now, of_indexes)
        return version

    def _published(self) -> Content | Unchanged | None:
        """Ask whether MEMORY.json is still the one that this writer began with; None and Unchanged: it is."""
        known = self._base.versions.get(MANIFEST_NAME) if self._base.directory is not None else None
        answer = self._objects.get(MANIFEST_NAME, most_bytes=MOST_BYTES[MANIFEST_NAME], known=known)
        return Unchanged() if answer is None and known is None else answer

    def _replace(self, data: bytes) -> Version:
        """Replace MEMORY.json on its condition."""
        known = self._base.versions.get(MANIFEST_NAME) if self._base.directory is not None else None
        try:
            return self._objects.replace(MANIFEST_NAME, data, known)
        except (Conflict, ObjectStoreError) as error:
            # An answer may have been lost after the request was carried out.
            failure = self._lost() if isinstance(error, Conflict) else error
            try:
                found = self._objects.get(MANIFEST_NAME, most_bytes=MOST_BYTES[MANIFEST_NAME])
            except ObjectStoreError:
                raise failure from None
            if isinstance(found, Content) and found.data == data:
                return found.version
            raise failure from None

    def _lost(self) -> PublishedMeanwhile:
        return PublishedMeanwhile(
            f"another writer has published a version of {self._snapshots.address} since this one began; that version "
            "stands, and nothing of this one was published. Give the same command again, if it is still wanted."
        )

    def _listed_index(self) -> dict[str, FileRecord]:
        """Return the files of the indexes that are at the store; those in the mirror may have been built there."""
        if self._base.versions.get(INDEX_LIST) is None:
            return {}
        found = self._objects.get(INDEX_LIST, most_bytes=MOST_BYTES[INDEX_LIST])
        if not isinstance(found, Content):
            return {}
        try:
            return read_index_list(found.data, str(self._snapshots.address))
        except MemoryDamaged:
            return {}

    def _publish_index(self, records: Mapping[str, FileRecord], listed: Mapping[str, FileRecord]) -> Version | None:
        """Upload the files of the indexes and their list; without indexes there is no list."""
        try:
            if not records:
                if self._base.versions.get(INDEX_LIST) is not None:
                    self._objects.delete([INDEX_LIST])
                return None
            known = {record.sha256 for record in listed.values()}
            upload(
                self._objects,
                self._directory,
                [(content_key(record), path) for path, record in records.items() if record.sha256 not in known],
            )
            return self._objects.put(INDEX_LIST, index_list(records))
        except ObjectStoreError:  # readers build the indexes themselves
            return None

    def _sweep(self, keys: list[str], now: Manifest, of_indexes: Set[FileRecord]) -> None:
        """Delete what was there before the publication and belongs neither to it nor to the version before."""
        kept = {INDEX_LIST} | {content_key(record) for record in of_indexes}
        for manifest in (self._before.manifest, now):
            files = table_files(manifest)
            kept |= files.keys() | {content_key(files[path]) for path in files if is_rewritten(path)}
        self._objects.delete(key for key in keys if key.startswith(_OUR_FOLDERS) and key not in kept)


def _require_room(snapshots: Snapshots) -> None:
    """Check that there is nothing at an address without a memory, unless it is the start of one.

    Raises:
        MemoryStoreError: there are objects of others.
    """
    keys = snapshots.objects.list_keys()
    begun = any(key.startswith(f"{CONTENT_FOLDER}/") for key in keys)
    foreign = sorted(key for key in keys if not (begun and key.startswith(_OUR_FOLDERS)))
    if foreign:
        raise MemoryStoreError(
            f"{snapshots.address} holds other objects ({printable(foreign[0])}) and no memory. Give an address below "
            "which there is nothing."
        )


def _begin(directory: Path, base: Snapshot) -> Path:
    """Make the directory of a writer from the newest version; of an earlier attempt its journal alone stays."""
    journal = directory.with_name(JOURNAL_NAME)
    if is_journal(directory / JOURNAL_NAME):
        (directory / JOURNAL_NAME).replace(journal)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    if base.directory is not None:
        link_files(base.directory, directory, table_files(read_manifest(base.directory)), checked=False)
        link_whole(base.directory, directory, MANIFEST_NAME, MANIFEST_COPY, CALIBRATION, FLAT_FOLDER, INDEX_FOLDER)
    if journal.exists():
        journal.replace(directory / JOURNAL_NAME)
    return directory
