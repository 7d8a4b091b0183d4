import errno
import os
import shutil

import lancedb
import pyarrow as pa
import pytest

from memory import Category, Memory, MemoryNotFound, MemoryStoreError
from memory.errors import WriteFailed
from memory.journal import JOURNAL_NAME
from memory.manifest import MANIFEST_COPY, MANIFEST_NAME, read_manifest
from memory.recovery import QUARANTINE
from tests.memory.building import build, exported


def contents(root):
    return {
        path.relative_to(root): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if path.name != "memory.lock"
    }


def spoil_manifests(directory):
    for name in (MANIFEST_NAME, MANIFEST_COPY):
        (directory / name).write_bytes(b"{")


@pytest.mark.parametrize("table", ["categories", "descriptions", "exemplars", "negatives"])
def test_a_lance_database_of_somebody_else_is_refused_untouched(categories, directory, encoder, table):
    lancedb.connect(directory).create_table(table, data=pa.table({"id": ["a"], "mine": [1]}))
    before = contents(directory)
    with pytest.raises(MemoryStoreError, match="holds other files"):
        build(categories, directory, encoder)
    (directory / MANIFEST_NAME).write_bytes(b"a file of this name that is not ours")
    before = contents(directory)
    with pytest.raises(MemoryStoreError, match="not certain"):
        build(categories, directory, encoder)
    assert contents(directory) == before


@pytest.mark.parametrize("published", [True, False])
def test_links_are_never_walked(categories, directory, encoder, tmp_path, published):
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    (other / "data" / "thesis.txt").write_text("mine")
    if published:
        build(categories, directory, encoder)
    else:
        directory.mkdir()
    (directory / "exemplars.lance").symlink_to(other, target_is_directory=True)
    with pytest.raises(MemoryStoreError, match=r"is a link|holds other files"):
        build(categories, directory, encoder)
    assert (other / "data" / "thesis.txt").read_text() == "mine"
    if published:
        with pytest.raises(MemoryStoreError, match="is a link"):
            Memory.open(directory).add([Category("emu")], encoder=encoder)
        assert (other / "data" / "thesis.txt").read_text() == "mine"


def test_building_over_damaged_manifests_deletes_nothing_before_it_publishes(categories, directory, encoder):
    build(categories, directory, encoder)
    before = exported(Memory.open(directory))
    spoil_manifests(directory)
    tables = {path: data for path, data in contents(directory).items() if ".lance/" in str(path)}

    class Interrupted(Exception):
        pass

    def interrupt(done, total):
        raise Interrupted

    more = [*categories, Category("emu")]
    with pytest.raises(Interrupted):
        build(more, directory, encoder, progress=interrupt)
    assert {path: data for path, data in contents(directory).items() if ".lance/" in str(path)} == tables
    encoder.calls.clear()
    assert build(categories, directory, encoder).report.texts_encoded == 0
    assert exported(Memory.open(directory)) == before


def test_a_killed_first_build_goes_to_the_quarantine_and_is_not_encoded_again(categories, directory, encoder):
    count = build(categories, directory, encoder).report.texts_encoded
    for name in (MANIFEST_NAME, MANIFEST_COPY):
        (directory / name).unlink()
    with pytest.raises(MemoryStoreError, match="holds other files"):  # without a journal of ours
        build(categories, directory, encoder)
    (directory / JOURNAL_NAME).write_bytes(b"MEMVEC1\0")
    report = build(categories, directory, encoder).report
    assert report.texts_encoded + report.texts_reused == count
    assert Memory.open(directory).info().categories == 4


def test_what_a_manifest_does_not_list_is_deleted_by_the_next_writer_only(categories, directory, encoder):
    build(categories, directory, encoder)
    first = read_manifest(directory)
    Memory.open(directory).add([Category("emu")], encoder=encoder)
    second = read_manifest(directory)
    listed = {file for manifest in (first, second) for table in manifest.tables.values() for file in table.files}
    assert all((directory / file).exists() for file in listed)  # a reader of the version before goes on
    Memory.open(directory).add([Category("gnu")], encoder=encoder)
    gone = {file for table in first.tables.values() for file in table.files if not (directory / file).exists()}
    assert gone
    assert all(file.endswith((".manifest", ".txn")) or ".lance" in file for file in gone)


def test_repair_restores_a_copy_and_says_what_is_kept(categories, directory, encoder):
    build(categories, directory, encoder)
    before = exported(Memory.open(directory))
    (directory / MANIFEST_NAME).write_bytes(b"")
    said = Memory.repair(directory)
    assert said == [
        f"wrote {MANIFEST_NAME} again from its copy",
        "categories: intact: 4 rows",
        "descriptions: intact: 4 rows",
    ]
    assert (directory / MANIFEST_NAME).read_bytes() == (directory / MANIFEST_COPY).read_bytes()
    assert Memory.repair(directory) == said[1:]
    assert exported(Memory.open(directory)) == before


def test_repair_moves_what_is_damaged_away_and_names_the_next_step(categories, directory, encoder):
    build(categories, directory, encoder)
    data = next((directory / "descriptions.lance" / "data").iterdir())
    data.write_bytes(bytes(data.stat().st_size))
    said = Memory.repair(directory)
    assert "descriptions: lost: 4 rows" in said
    assert f"moved to {QUARANTINE}: descriptions.lance" in said
    assert "recognizer build" in said[-1]
    assert (directory / QUARANTINE / "descriptions.lance" / "data" / data.name).exists()
    spoil_manifests(directory)
    assert "categories: intact: 4 rows" in Memory.repair(directory)
    build(categories, directory, encoder)
    assert all(finding.ok for finding in Memory.open(directory).verify())


def test_there_is_nothing_to_repair_where_no_memory_is(tmp_path):
    with pytest.raises(MemoryNotFound):
        Memory.repair(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MemoryStoreError, match=r"thesis\.txt"):
        Memory.repair(tmp_path)


def test_a_full_disk_leaves_the_memory_and_no_leftovers(categories, directory, encoder, monkeypatch):
    build(categories, directory, encoder)
    before = contents(directory)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for function in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(function, full)
            with pytest.raises(WriteFailed, match=r"No space left on device\. [\d.]+ MiB are free.*make room"):
                Memory.open(directory).add([Category("emu")], encoder=encoder)
        left = contents(directory)
        journal = {path for path in left if path.name == JOURNAL_NAME}
        changed = {path for path in left.keys() | before.keys() if left.get(path) != before.get(path)} - journal
        assert not [path for path in changed if not path.name.startswith("latest_version_hint")], (function, changed)
    Memory.open(directory).add([Category("emu")], encoder=encoder)
    assert Memory.open(directory).info().categories == 5


def test_what_cannot_be_deleted_after_the_publication_is_deleted_by_the_next_writer(
    categories, directory, encoder, monkeypatch
):
    build(categories, directory, encoder)
    other = shutil.copytree(directory, directory.with_name("other"))
    for name in ("cat", "dog"):
        Memory.open(other).remove([name])

    def refuse(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", refuse)
        Memory.open(directory).remove(["cat"])
    Memory.open(directory).remove(["dog"])
    assert len(contents(directory)) == len(contents(other))
    assert all(finding.ok for finding in Memory.open(directory).verify())


@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="mounting needs root")
def test_a_small_file_system_that_fills_up_is_named(directory, encoder):
    directory.mkdir()
    if os.system(f"mount -t tmpfs -o size=300k tmpfs '{directory}' 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises((WriteFailed, MemoryStoreError), match=r"No space left|needed"):
            build([Category(f"category {number}") for number in range(5000)], directory, encoder)
    finally:
        os.system(f"umount '{directory}'")
