"""The mirror of one address in the user's cache: a few directories, each a version of the memory as it was published.

    FOLDER/state.json      which directory is the newest, and the versions of the objects it was made from
    FOLDER/v-1a2b…/        a memory as any other; readers use it where it is
    FOLDER/writer/memory/  where a writer works; it becomes the newest directory once it has been published

Directories share their unchanged files as hard links. A new version makes a new directory, so readers never wait and
never see half of it; the directory before the newest one stays for those who have it open.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from memory.durable import replacing, write_failure
from memory.errors import MemoryDamaged, MemoryNotFound
from memory.flat.files import FLAT_FOLDER
from memory.flat.writer import write_flat
from memory.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest, write_manifest
from memory.remote import CALIBRATION
from memory.remote.address import Address, cache_folder
from memory.remote.folders import AddressLock, link_files, link_whole
from memory.remote.objects import Content, Objects, Unchanged, Version
from memory.remote.side_files import INDEX_LIST, MOST_BYTES, fetch_index
from memory.remote.transfer import check_records, fetch_tables, table_files
from memory.search import INDEX_FOLDER

Answers: TypeAlias = Mapping[str, Content | Unchanged | None]
"""By key, what the store says of a small object."""

_STATE = "state.json"
_DIRECTORY = re.compile(r"v-[0-9a-f]{16}")
# Another process of this user that fetches the same version; a memory of some gigabytes takes it minutes.
_WAIT_SECONDS: Final = 900.0
# Two publications while one memory is fetched are rare; this many in a row are not chance.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of the memory in the cache.

    Attributes:
        directory: of the memory; None: there is none at the address.
        versions: of the objects it was made from, by key; None: there was no such object.
        previous: name of the directory before this one.
    """

    directory: Path | None = None
    versions: Mapping[str, Version | None] = field(default_factory=dict)
    previous: str = ""


class Snapshots:
    """The mirror of an address.

    Args:
        address: of the memory.

    Raises:
        ObjectStoreError: the cache cannot be used, or obstore is not installed.
    """

    def __init__(self, address: Address) -> None:
        """Make the folder in the cache; nothing is fetched."""
        self.address = address
        self.folder = cache_folder("memories", address)
        self.objects = Objects(address)

    def refresh(self, *, whole: bool = False) -> Snapshot:
        """Fetch what has changed since the last time; where nothing has, that costs one small request for each file.

        Args:
            whole: also check the content of all files that are in the cache, and fetch damaged ones again.

        Raises:
            ObjectStoreError: the store fails.
            MemoryDamaged, SchemaTooNew: what is there is not a memory that can be read.
        """
        current = self.current()
        if not whole and current.directory is not None and _is_unchanged(self._ask(current)):
            return current
        with self.locked():
            for attempt in range(_ATTEMPTS):
                current = self.current()  # perhaps another process has just fetched it
                readable = not whole and _manifest_of(current.directory) is not None
                answers = self._ask(current if readable else Snapshot())
                if not whole and current.directory is not None and _is_unchanged(answers):
                    return current
                if answers[MANIFEST_NAME] is None:
                    return Snapshot()
                try:
                    return self._fetch(current, answers, whole)
                except MemoryDamaged:
                    # Its files may have been deleted because a newer version is there.
                    if attempt + 1 == _ATTEMPTS or self._is_published(answers, current):
                        raise
        raise AssertionError("the last attempt returns or raises")

    def current(self) -> Snapshot:
        """Return the newest directory in the cache; nothing is asked of the store."""
        try:
            state = json.loads((self.folder / _STATE).read_bytes())
            name, previous = str(state["directory"]), str(state["previous"])
            versions = {key: None if one is None else Version(**one) for key, one in state["versions"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Snapshot()
        directory = self.folder / name
        if not _DIRECTORY.fullmatch(name) or not directory.is_dir():
            return Snapshot()
        return Snapshot(directory, versions, previous)

    def adopt(self, directory: Path, versions: Mapping[str, Version | None]) -> Snapshot:
        """Make a directory within the mirror the newest one; for the holder of ``locked``.

        Args:
            directory: is renamed.
            versions: of the objects it was made from.
        """
        before = self.current()
        name = f"v-{secrets.token_hex(8)}"
        previous = before.directory.name if before.directory is not None else ""
        state = {
            "directory": name,
            "previous": previous,
            "versions": {key: None if one is None else asdict(one) for key, one in versions.items()},
        }
        try:
            directory.rename(self.folder / name)
            with replacing(self.folder / _STATE) as draft:
                draft.write_text(json.dumps(state))
        except OSError as error:
            raise write_failure(self.folder / name, error) from error
        for entry in self.folder.iterdir():
            if _DIRECTORY.fullmatch(entry.name) and entry.name not in (name, previous):
                shutil.rmtree(entry, ignore_errors=True)
        return Snapshot(self.folder / name, versions, previous)

    def locked(self) -> AddressLock:
        """Return the lock of those who change which directory is the newest."""
        return AddressLock(self.folder, self.address, wait_seconds=_WAIT_SECONDS)

    def new_directory(self) -> Path:
        """Make an empty directory that is not used yet; for the holder of ``locked``."""
        draft = self.folder / "fetched"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        return draft

    def _ask(self, known: Snapshot) -> Answers:
        """Ask for the small objects, all at a time."""
        keys = [MANIFEST_NAME, CALIBRATION]
        keys += [INDEX_LIST] if known.versions.get(INDEX_LIST) is not None else []
        with ThreadPoolExecutor(len(keys)) as pool:
            answers = dict(zip(keys, pool.map(lambda key: self._ask_one(key, known), keys), strict=True))
        manifest = answers[MANIFEST_NAME]
        if isinstance(manifest, Content) and INDEX_LIST not in answers:
            if parse_manifest(manifest.data, self._shown).index.kind == "exact":
                return answers | {INDEX_LIST: None}
            answers[INDEX_LIST] = self._ask_one(INDEX_LIST, known)
        return answers

    def _ask_one(self, key: str, known: Snapshot) -> Content | Unchanged | None:
        before = known.versions.get(key)
        answer = self.objects.get(key, most_bytes=MOST_BYTES[key], known=before)
        return Unchanged() if answer is None and key in known.versions and before is None else answer

    def _is_published(self, answers: Answers, current: Snapshot) -> bool:
        """Say whether MEMORY.json is still the one that was answered."""
        before = answers[MANIFEST_NAME]
        version = before.version if isinstance(before, Content) else current.versions.get(MANIFEST_NAME)
        return isinstance(
            self.objects.get(MANIFEST_NAME, most_bytes=MOST_BYTES[MANIFEST_NAME], known=version), Unchanged
        )

    @property
    def _shown(self) -> str:
        return f"{self.address}/{MANIFEST_NAME}"

    def _fetch(self, current: Snapshot, answers: Answers, whole: bool) -> Snapshot:
        """Make a directory of what the store answered, and of what is in the cache already."""
        answer = answers[MANIFEST_NAME]
        earlier = _manifest_of(current.directory)
        if isinstance(answer, Content):
            manifest = parse_manifest(answer.data, self._shown)
            check_records(manifest, self._shown)
        else:
            assert earlier is not None
            manifest = earlier
        draft = self.new_directory()
        records = table_files(manifest)
        known = link_files(current.directory, draft, records, checked=True)
        fetch_tables(self.objects, {path: one for path, one in records.items() if path not in known}, draft)
        calibration = answers[CALIBRATION]
        if isinstance(calibration, Content):
            (draft / CALIBRATION).write_bytes(calibration.data)
        elif calibration is not None:
            link_whole(current.directory, draft, CALIBRATION)
        listed = answers.get(INDEX_LIST)
        if isinstance(listed, Content):
            fetch_index(self.objects, listed.data, manifest, current.directory, draft)
        elif listed is not None:
            link_whole(current.directory, draft, INDEX_FOLDER)
        write_manifest(draft, manifest)
        if not whole and earlier is not None and earlier.tables_digest() == manifest.tables_digest():
            link_whole(current.directory, draft, FLAT_FOLDER)
        else:
            write_flat(draft, manifest)  # made here, because fetching it would take as long as the tables do
        versions = {
            key: current.versions.get(key) if isinstance(one, Unchanged) else None if one is None else one.version
            for key, one in answers.items()
        }
        return self.adopt(draft, versions)


def _manifest_of(directory: Path | None) -> Manifest | None:
    if directory is None:
        return None
    try:
        return read_manifest(directory)
    except (MemoryNotFound, MemoryDamaged):
        return None


def _is_unchanged(answers: Answers) -> bool:
    return all(isinstance(one, Unchanged) for one in answers.values())
