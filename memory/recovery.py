"""What a writer may use of a directory, and what it must move out of its way.

Three rules. A directory is ours when a MEMORY.json in it is intact, when its tables have our columns, or when it holds
nothing but the start of a build; any other is refused, untouched. What an intact MEMORY.json does not list is
the rest of an unfinished write, and is deleted. What no intact MEMORY.json speaks for is moved to ``_quarantine``,
never deleted. All of it happens under the writer lock; readers move nothing.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from memory.columns import MemoryColumns
from memory.durable import LOCK_NAME, WriterLock, draft_name, make_folder, replacing, write_failure
from memory.encoder_card import EncoderCard
from memory.errors import MemoryDamaged, MemoryNotFound, MemoryStoreError, printable, printable_path
from memory.flat.files import FLAT_FOLDER
from memory.flat.reader import check_flat, columns_of_tables, read_flat
from memory.flat.writer import write_flat
from memory.integrity import damaged_files
from memory.journal import JOURNAL_NAME, is_journal
from memory.manifest import MANIFEST_COPY, MANIFEST_NAME, Manifest, TableRecord, read_copy, read_manifest
from memory.search import INDEX_FOLDER, index_is_current
from memory.store import TableStore
from memory.tables import TABLES, schema
from memory.wording import counted

QUARANTINE = "_quarantine"
_DRAFTS = frozenset({draft_name(MANIFEST_NAME), draft_name(MANIFEST_COPY)})
_TABLE_FOLDERS = frozenset(f"{table}.lance" for table in TABLES)
# What the start of a build leaves before anything is published.
_START_OF_A_BUILD = frozenset({LOCK_NAME, JOURNAL_NAME, QUARANTINE, INDEX_FOLDER, FLAT_FOLDER}) | _DRAFTS


def prepare_directory(directory: Path) -> None:
    """Make the directory of a memory, or check that the one that is there is ours; nothing in it is changed.

    Raises:
        MemoryStoreError: it cannot be made, or it holds files of others.
        SchemaTooNew: a newer release wrote the memory in it.
    """
    shown = printable_path(directory)
    try:
        make_folder(directory)
        entries = {entry.name for entry in directory.iterdir()}
    except OSError as error:
        raise MemoryStoreError(
            f"{shown} cannot be used as a memory ({error.strerror}). Give a folder that you can write to."
        ) from error
    if published_manifest(directory) is not None:
        return
    if entries & {MANIFEST_NAME, MANIFEST_COPY}:
        if not usable_tables(directory, None):
            raise MemoryStoreError(
                f"the {MANIFEST_NAME} in {shown} is damaged and none of its tables can be read, so it is not certain "
                "that it is a memory. Move the folder away, or build in a new one."
            )
        return
    begun = is_journal(directory / JOURNAL_NAME)
    foreign = sorted(entries - _START_OF_A_BUILD - (_TABLE_FOLDERS if begun else set()))
    if foreign:
        raise MemoryStoreError(
            f"{shown} holds other files ({printable(foreign[0])}) and no memory. Give an empty or a new folder."
        )


def published_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a directory; None when there is none, or both copies are damaged."""
    try:
        return read_manifest(directory)
    except (MemoryNotFound, MemoryDamaged):
        return None


def usable_tables(directory: Path, manifest: Manifest | None) -> dict[str, TableRecord]:
    """Return the tables whose vectors a build can use again; nothing is changed.

    With a manifest they are those whose files are all unchanged; without, those that Lance can read whole and that have
    our columns. Rows are known by keys of encoder and text, so rows of another memory are never mistaken for the same.
    """
    if manifest is not None:
        return {name: table for name, table in manifest.tables.items() if not damaged_files(directory, table.files)}
    store = TableStore(directory)
    adopted = {name: store.adopt(name, schema(name, 1).names) for name in TABLES}
    return {name: table for name, table in adopted.items() if table is not None}


def reusable_columns(
    directory: Path, manifest: Manifest | None, tables: Mapping[str, TableRecord], card: EncoderCard
) -> MemoryColumns | None:
    """Return the columns whose vectors a build can use again: of the flat copy, or of the usable tables.

    Args:
        directory: the memory.
        manifest: the published manifest, None when there is none that is intact.
        tables: the usable ones.
        card: of the encoder of the build; vectors of another one are of no use.
    """
    if manifest is not None and (manifest.encoder.fingerprint, manifest.encoder.dim) != (card.fingerprint, card.dim):
        return None
    if manifest is not None:
        with contextlib.suppress(KeyError):
            if check_flat(directory, manifest) is None:
                return read_flat(directory, manifest)
    try:
        return columns_of_tables(TableStore(directory), tables, card.dim)
    except ValueError:  # vectors of another dimension
        return None


def make_room(directory: Path, manifest: Manifest | None, tables: Mapping[str, TableRecord]) -> list[str]:
    """Make the usable tables the newest that Lance sees; only for the holder of the writer lock.

    Args:
        directory: the memory.
        manifest: the published manifest, None when there is none that is intact.
        tables: the usable ones.

    Returns:
        What was moved to the quarantine, relative to the memory.
    """
    store = TableStore(directory)
    moved: list[str] = []
    for name in TABLES:
        if name in tables:
            newer = store.newer_manifests(name, tables[name])
            if manifest is not None:
                store.delete_files(newer)
            else:
                moved += [_quarantine(directory, file) for file in newer]
        elif manifest is not None and name not in manifest.tables:
            store.sweep([name])
        elif store.files(name):
            moved.append(_quarantine(directory, store.folder(name).name))
    return moved


def repair(directory: Path) -> list[str]:
    """Restore what can be restored without the encoder; returns a sentence for each thing done, and for what is kept.

    Raises:
        MemoryNotFound: there is no memory.
        MemoryStoreError: it cannot be written, or it is not certain that the folder is a memory.
    """
    if not directory.is_dir() or not any(directory.iterdir()):
        raise MemoryNotFound(f"there is no memory at {printable_path(directory)}")
    prepare_directory(directory)
    done: list[str] = []
    with WriterLock(directory):
        manifest = published_manifest(directory)
        tables = usable_tables(directory, manifest)
        for name in sorted(_DRAFTS):
            if (directory / name).exists():
                (directory / name).unlink()
                done.append(f"deleted {name}, the start of a write that did not finish")
        done += [f"moved to {QUARANTINE}: {file}" for file in make_room(directory, manifest, tables)]
        if manifest is None:
            done.append(f"both {MANIFEST_NAME} and {MANIFEST_COPY} are damaged; settings and encoder are lost")
        else:
            done += _restore_copies(directory, manifest)
            done += _restore_flat(directory, manifest, tables)
            if (directory / INDEX_FOLDER).exists() and not index_is_current(directory, manifest):
                shutil.rmtree(directory / INDEX_FOLDER)
                done.append("deleted the index, which is damaged or of another version; the next search makes it again")
    listed = tables if manifest is None else manifest.tables
    done += [f"{name}: intact: {counted(table.rows, 'row')}" for name, table in sorted(tables.items())]
    done += [
        f"{name}: lost: {counted(table.rows, 'row')}" for name, table in sorted(listed.items()) if name not in tables
    ]
    if manifest is None or set(listed) - set(tables):
        done.append("run `recognizer build` with the same labels; texts of intact rows are not encoded again")
    return done


def _restore_copies(directory: Path, manifest: Manifest) -> list[str]:
    done = []
    for name in (MANIFEST_NAME, MANIFEST_COPY):
        try:
            intact = read_copy(directory / name) == manifest
        except (OSError, MemoryStoreError):
            intact = False
        if not intact:
            with replacing(directory / name) as draft:
                draft.write_bytes(manifest.to_bytes())
            done.append(f"wrote {name} again from its copy")
    return done


def _restore_flat(directory: Path, manifest: Manifest, tables: Mapping[str, TableRecord]) -> list[str]:
    try:
        damage = check_flat(directory, manifest)
    except KeyError:
        damage = "there was none of these tables"
    if damage is None or set(tables) != set(manifest.tables):
        return []
    write_flat(directory, manifest)
    return [f"wrote the flat copy again from the tables: {damage}"]


def _quarantine(directory: Path, name: str) -> str:
    """Move a file or folder to the quarantine, under its path with hyphens for slashes; returns its name."""
    folder = directory / QUARANTINE
    target = folder / name.replace("/", "-")
    number = 0
    while target.exists():
        number += 1
        target = folder / f"{name.replace('/', '-')}.{number}"
    try:
        folder.mkdir(exist_ok=True)
        (directory / name).rename(target)
    except OSError as error:
        raise write_failure(target, error) from error
    return name
