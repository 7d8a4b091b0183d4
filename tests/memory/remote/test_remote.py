"""Memories on an object store: what readers see, what writers do to each other, and what goes wrong."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import lancedb
import pytest

from memory import (
    Category,
    Memory,
    MemoryDamaged,
    MemoryLocked,
    MemoryNotFound,
    MemoryStoreError,
    ObjectStoreError,
    PublishedMeanwhile,
)
from memory.durable import FileRecord
from memory.manifest import MANIFEST_NAME, parse_manifest
from memory.remote import CALIBRATION
from memory.remote.address import Address, cache_folder
from memory.remote.memory import RemoteMemory, local_copy
from memory.remote.objects import Objects
from memory.remote.side_files import INDEX_LIST, MOST_BYTES, index_list, read_index_list
from memory.remote.snapshots import Snapshots
from memory.remote.transfer import content_key, table_files
from tests.memory.building import build, exemplar_set, exported
from tests.memory.fake_encoder import FakeEncoder
from tests.objects_server import environment

ROOT = Path(__file__).parents[3]
FEW = [Category("cat"), Category("dog"), Category("crane", "bird"), Category("crane", "machine")]


@pytest.fixture
def address(object_store):
    return object_store.new_address()


@pytest.fixture
def objects(address):
    return Objects(Address.parse(address))


@pytest.fixture(scope="module")
def stored(object_server, tmp_path_factory):
    """The objects of a memory of the categories of `categories`, by key."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(object_server.url, tmp_path_factory.mktemp("cache")).items():
            patch.setenv(name, value)
        address = object_server.new_address()
        build(FEW, address, FakeEncoder())
        objects = Objects(Address.parse(address))
        return {key: objects.get(key, most_bytes=10**6).data for key in objects.list_keys()}


@pytest.fixture
def filled(objects, stored):
    """Let there be a memory at the address, which this machine has not seen."""
    for key, data in stored.items():
        objects.put(key, data)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Go to another machine: one with an empty cache."""

    def go(name="elsewhere"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    return go


def names(memory):
    return sorted(category.name for category in memory.vectors.categories)


def manifest_at(objects):
    return parse_manifest(objects.get(MANIFEST_NAME, most_bytes=10**6).data, "there")


def publish(objects, manifest):
    """Replace MEMORY.json as somebody else might."""
    objects.put(MANIFEST_NAME, manifest.to_bytes())


def with_file(manifest, path, record):
    """A manifest whose table `categories` lists one more file."""
    table = manifest.tables["categories"]
    changed = replace(table, files={**table.files, path: record})
    return replace(manifest, tables={**manifest.tables, "categories": changed})


def data_file(manifest):
    return next(path for path in table_files(manifest) if "/data/" in path)


def test_a_memory_at_an_address_is_that_of_a_directory(categories, address, elsewhere, tmp_path, encoder):
    exemplars = exemplar_set(categories, 1)
    built = build(categories, address, encoder, exemplars=exemplars, settings={"a": 1})
    there = build(categories, tmp_path / "memory", encoder, exemplars=exemplars, settings={"a": 1})
    assert isinstance(built, RemoteMemory)
    assert built.location == built.info().directory == address
    assert built.report.texts_encoded > 0
    elsewhere()
    for memory in (built, Memory.open(address)):
        assert exported(memory) == exported(there)
        assert memory.settings == {"a": 1}
        assert all(finding.ok for finding in memory.verify())
    for memory in (built, there):
        memory.add([Category("emu")], encoder=encoder)
        assert [c.name for c in memory.remove(["dog"])] == ["dog"]
        memory.replace_exemplars(None)
        memory.store_settings({"b": 2})
    assert exported(Memory.open(address)) == exported(built) == exported(there)
    assert Memory.open(address).settings == {"b": 2}
    assert Memory.open(address).version == there.version == 4


def test_a_second_opening_asks_once_for_each_small_file_and_fetches_nothing(
    address, filled, elsewhere, object_store, encoder
):
    elsewhere()
    Memory.open(address)
    with object_store.requests() as requests:
        assert len(Memory.open(address).vectors.categories) == len(FEW)
    assert sorted(requests) == [("GET", MANIFEST_NAME, "304"), ("GET", CALIBRATION, "404")]


def test_after_an_addition_only_the_new_files_are_fetched(address, filled, elsewhere, object_store, encoder):
    elsewhere()
    reader = Memory.open(address)
    elsewhere("another")
    with object_store.requests() as requests:
        Memory.open(address).add([Category("emu")], encoder=encoder)
    uploaded = {key for method, key, _ in requests if method == "PUT"}
    elsewhere()
    with object_store.requests() as requests:
        assert "emu" in names(Memory.open(address))
    fetched = {key for method, key, status in requests if method == "GET" and status in ("200", "206")}
    assert 0 < len(fetched - {MANIFEST_NAME}) <= len(uploaded)
    assert fetched <= uploaded
    assert "emu" not in names(reader)  # what was open stays as it was


def test_lancedb_opens_the_tables_where_they_are(address, filled, encoder):
    memory = Memory.open(address)
    memory.add([Category("emu")], encoder=encoder)
    memory.remove(["cat"])
    table = lancedb.connect(address, storage_options={"allow_http": "true"}).open_table("categories")
    assert sorted(table.to_arrow()["name"].to_pylist()) == ["crane", "crane", "dog", "emu"]


def test_a_directory_that_was_copied_there_is_a_memory(categories, address, objects, tmp_path, encoder):
    local = build(categories, tmp_path / "memory", encoder)
    for path in (tmp_path / "memory").rglob("*"):
        if path.is_file():
            objects.put(path.relative_to(tmp_path / "memory").as_posix(), path)
    memory = Memory.open(address)
    assert exported(memory) == exported(local)
    memory.add([Category("emu")], encoder=encoder)
    assert "emu" in names(Memory.open(address))


def test_approximate_indexes_travel_with_the_memory(categories, address, elsewhere, encoder, monkeypatch):
    build(categories, address, encoder, index="hnsw")
    elsewhere()
    memory = Memory.open(address)
    monkeypatch.setattr("memory.search.settled.write_index", lambda *_: pytest.fail("it was built again"))
    assert memory.index().figures["search"] > 0.9


def test_an_index_that_was_built_in_the_mirror_is_published_by_the_next_writer(
    categories, address, elsewhere, objects, encoder, monkeypatch
):
    memory = build(categories, address, encoder, index="hnsw")
    memory.add([Category("emu")], encoder=encoder)
    memory.index()  # the one that was built no longer belongs to the tables
    memory.store_settings({"a": 1})
    records = read_index_list(objects.get(INDEX_LIST, most_bytes=10**6).data, "there")
    assert {content_key(record) for record in records.values()} <= set(objects.list_keys())
    elsewhere()
    monkeypatch.setattr("memory.search.settled.write_index", lambda *_: pytest.fail("it was built again"))
    Memory.open(address).index()


def test_a_damaged_index_is_built_again(categories, address, elsewhere, objects, encoder):
    build(categories, address, encoder, index="hnsw")
    for record in read_index_list(objects.get(INDEX_LIST, most_bytes=10**6).data, "there").values():
        objects.put(content_key(record), b"damaged")
    elsewhere()
    assert Memory.open(address).index().figures["search"] > 0.9
    build(categories, address, encoder)
    assert objects.get(INDEX_LIST, most_bytes=10**6) is None
    assert Memory.open(address).index_kind == "exact"


def test_settings_beside_the_tables_are_published(address, filled, elsewhere, encoder):
    memory = Memory.open(address)
    with memory.writing() as directory:
        (directory / CALIBRATION).write_text("first")
    elsewhere()
    other = Memory.open(address)
    assert (other.directory / CALIBRATION).read_text() == "first"
    with other.writing() as directory:
        (directory / CALIBRATION).write_text("second")
    other.add([Category("emu")], encoder=encoder)
    elsewhere("another")
    assert (Memory.open(address).directory / CALIBRATION).read_text() == "second"


def test_of_two_builders_one_wins_and_the_other_says_so(categories, address, elsewhere, objects, encoder):
    class Overtaken(FakeEncoder):
        def encode_texts(self, texts):
            if not self.calls:
                elsewhere("winner")
                build([Category("winner", metadata={"round": str(existing)})], address, encoder)
                elsewhere("loser")
            return super().encode_texts(texts)

    for existing in (False, True):
        if existing:
            elsewhere("loser")
            assert names(Memory.open(address)) == ["winner"]
        elsewhere("loser")
        with pytest.raises(PublishedMeanwhile, match=f"another writer has published a version of {address}"):
            build([*categories, Category(f"new {existing}")], address, Overtaken())
        assert names(Memory.open(address)) == ["winner"]


def test_a_race_for_the_last_request_is_decided_by_the_store(
    categories, address, elsewhere, objects, monkeypatch, encoder
):
    replace_object = Objects.replace

    def late(self, key, content, before):
        monkeypatch.setattr(Objects, "replace", replace_object)
        elsewhere("winner")
        build([Category("winner")], address, encoder)
        elsewhere("loser")
        return replace_object(self, key, content, before)

    elsewhere("loser")
    monkeypatch.setattr(Objects, "replace", late)
    with pytest.raises(PublishedMeanwhile):
        build(categories, address, encoder)
    winner = Memory.open(address)
    assert names(winner) == ["winner"]
    # What the loser has uploaded, manifests of the same number among it, does not touch the winner's files.
    elsewhere("fresh")
    assert all(finding.ok for finding in Memory.open(address).verify())
    left = len(objects.list_keys())
    winner.remove(["winner"])
    winner.add([Category("winner")], encoder=encoder)
    assert names(Memory.open(address)) == ["winner"]
    kept = {*table_files(manifest_at(objects)), MANIFEST_NAME}
    assert kept <= set(objects.list_keys())
    assert len(objects.list_keys()) < left + len(kept)


def test_a_lost_answer_to_the_last_request_is_no_loss(address, monkeypatch, encoder):
    replace_object = Objects.replace

    def lost(self, *arguments):
        replace_object(self, *arguments)
        raise ObjectStoreError("the line broke")

    monkeypatch.setattr(Objects, "replace", lost)
    build(FEW, address, encoder)
    assert len(names(Memory.open(address))) == len(FEW)


@pytest.mark.parametrize(
    "failure", [ObjectStoreError("it died"), pytest.param(KeyboardInterrupt(), marks=pytest.mark.slow)]
)
def test_a_writer_that_dies_at_any_request_leaves_the_memory_as_it_was(
    failure, address, filled, elsewhere, objects, monkeypatch, encoder
):
    put, replace_object = Objects.put, Objects.replace
    for number in range(20):
        left = iter(range(number))

        def dying(self, *arguments, _left=left):
            if next(_left, None) is None:
                raise failure
            return put(self, *arguments) if len(arguments) == 2 else replace_object(self, *arguments)

        before = manifest_at(objects)
        monkeypatch.setattr(Objects, "put", dying)
        monkeypatch.setattr(Objects, "replace", dying)
        memory = Memory.open(address)
        try:
            memory.add([Category(f"emu {number}")], encoder=encoder)
        except (ObjectStoreError, KeyboardInterrupt) as error:
            assert error is failure  # noqa: PT017
            assert memory.version == before.version
        else:
            break
        finally:
            monkeypatch.setattr(Objects, "put", put)
            monkeypatch.setattr(Objects, "replace", replace_object)
        elsewhere(f"reader {number}")
        after = Memory.open(address)
        assert manifest_at(objects) == before or f"emu {number}" in names(after)
    assert number > 3
    assert f"emu {number}" in names(Memory.open(address))
    # The next ones delete what was left: only the files of two versions stay.
    Memory.open(address).remove([f"emu {number}"])
    earlier = table_files(manifest_at(objects))
    Memory.open(address).add([Category("rhea")], encoder=encoder)
    files = {**earlier, **table_files(manifest_at(objects))}
    manifests = {content_key(files[path]) for path in files if path.endswith(".manifest")}
    assert set(objects.list_keys()) == {MANIFEST_NAME, *files, *manifests}


KILLED = """
import os, signal, sys
from memory import Category, Memory
from memory.remote.objects import Objects
from tests.memory.fake_encoder import FakeEncoder

replace = Objects.replace
Objects.replace = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
Memory.open(sys.argv[1]).add([Category("emu")], encoder=FakeEncoder())
"""


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_a_write_is_no_hindrance(address, filled, objects, stored, encoder):
    killed = subprocess.run([sys.executable, "-c", KILLED, address], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(objects.list_keys()) > len(stored)  # its files are there, and nothing lists them
    memory = Memory.open(address)
    assert len(names(memory)) == len(FEW)
    memory.add([Category("emu")], encoder=encoder)
    assert "emu" in names(Memory.open(address))


@pytest.mark.slow
def test_an_interrupted_build_goes_on_where_it_stopped(categories, address, encoder):
    many = [*categories, *(Category(f"bird {i}") for i in range(1500))]
    with pytest.raises(InterruptedError):
        build(many, address, FakeEncoder(fail_after_chunks=1))
    with pytest.raises(MemoryNotFound, match=f"no memory at {address}"):
        Memory.open(address)
    assert build(many, address, encoder).report.texts_reused > 0


def test_a_place_of_others_is_refused_untouched(categories, address, objects, encoder):
    objects.put("categories.lance/data/x.lance", b"theirs")
    with pytest.raises(MemoryStoreError, match=r"other objects \(categories\.lance/data/x\.lance\) and no memory"):
        build(categories, address, encoder)
    assert objects.list_keys() == ["categories.lance/data/x.lance"]


def test_objects_of_others_beside_a_memory_stay(address, filled, objects):
    for key in ("notes.txt", "images.lance/data/x"):
        objects.put(key, b"theirs")
    for category in FEW[:2]:
        Memory.open(address).remove([category.name])
    assert {"notes.txt", "images.lance/data/x"} <= set(objects.list_keys())


def test_a_second_writer_of_this_machine_waits_for_the_first(address, filled, encoder):
    with (
        Memory.open(address).writing(),
        pytest.raises(MemoryLocked, match=f"on this machine, {address} is being written by process {os.getpid()}"),
    ):
        Memory.open(address).add([Category("emu")], encoder=encoder)


@pytest.mark.parametrize("damage", ["truncate", "change", "delete", "link", "manifest", "everything"])
def test_a_damaged_mirror_is_mended(damage, address, filled, object_store, tmp_path, encoder):
    memory = Memory.open(address)
    file = memory.directory / data_file(manifest_at(Objects(Address.parse(address))))
    match damage:
        case "truncate":
            os.truncate(file, 10)
        case "change":
            content = bytearray(file.read_bytes())
            content[20] ^= 1
            file.unlink()
            file.write_bytes(content)
        case "delete":
            file.unlink()
        case "link":
            shutil.move(file, tmp_path / "other")
            file.symlink_to(tmp_path / "other")
            (tmp_path / "other").write_bytes(b"other")
        case "manifest":
            for name in ("MEMORY.json", "MEMORY.json.1"):
                (memory.directory / name).write_bytes(b"{}")
        case "everything":
            shutil.rmtree(memory.directory)
    assert len(names(Memory.open(address))) == len(FEW)
    with object_store.requests() as requests:
        Memory.open(address)
    assert len(requests) == 2


def test_a_mirror_damaged_after_opening_is_mended_when_it_is_read(address, filled, objects):
    memory = Memory.open(address)
    shutil.rmtree(memory.directory / "flat")
    os.truncate(memory.directory / data_file(manifest_at(objects)), 10)
    assert len(names(memory)) == len(FEW)
    assert all(finding.ok for finding in memory.verify())


def test_a_memory_that_is_rewritten_while_it_is_fetched_is_fetched_as_it_is_then(
    address, filled, elsewhere, monkeypatch, encoder
):
    get_part = Objects.get_part

    def rewritten(self, *arguments):
        monkeypatch.setattr(Objects, "get_part", get_part)
        elsewhere("writer")
        for number in range(2):  # after two versions the files of the first one are gone
            build([Category(f"emu {number}")], address, encoder)
        elsewhere("reader")
        return get_part(self, *arguments)

    elsewhere("reader")
    monkeypatch.setattr("memory.remote.transfer.CONCURRENT", 1)
    monkeypatch.setattr(Objects, "get_part", rewritten)
    assert names(Memory.open(address)) == ["emu 1"]


def test_repairing_fetches_what_differs(address, filled, encoder):
    memory = Memory.open(address)
    (sentence,) = Memory.repair(address)
    assert sentence.startswith(f"{address}: intact; ")
    with pytest.raises(MemoryNotFound):
        Memory.repair(f"{address}/none")
    assert local_copy(address) != memory.directory  # it was made anew
    assert not local_copy(f"{address}/none").exists()


@pytest.mark.parametrize("content", [None, b"of another writer"])
def test_manifests_of_lance_are_also_found_by_their_content(content, address, filled, objects, encoder):
    for path in table_files(manifest_at(objects)):
        if path.endswith(".manifest"):
            objects.delete([path])
            if content is not None:
                objects.put(path, content)
    memory = Memory.open(address)
    assert len(names(memory)) == len(FEW)
    memory.store_settings({"a": 1})  # the next writer puts them to where Lance looks
    table = lancedb.connect(address, storage_options={"allow_http": "true"}).open_table("categories")
    assert table.count_rows() == len(FEW)


@pytest.mark.parametrize("content", [None, b"", b"short", b"x" * 4000])
def test_foreign_and_cut_off_files_are_never_used(content, address, filled, elsewhere, objects, encoder):
    path = data_file(manifest_at(objects))
    if content is None:
        objects.delete([path])
    else:
        objects.put(path, content)
    elsewhere()
    with pytest.raises(MemoryDamaged, match=rf"{address} is damaged: {path} is missing, cut off or of another content"):
        Memory.open(address)


@pytest.mark.parametrize(
    ("path", "record"),
    [
        ("categories.lance/a", FileRecord(-1, "0" * 64)),
        ("categories.lance/a", FileRecord(1.5, "0" * 64)),
        ("categories.lance/a", FileRecord(True, "0" * 64)),
        ("categories.lance/a", FileRecord(1, "0" * 63)),
        ("categories.lance/a", FileRecord(1, "../" + "0" * 61)),
        ("categories.lance/a", FileRecord(1, 5)),
        ("categories.lance/a\\b", FileRecord(1, "0" * 64)),
        ("categories.lance/a\x1bb", FileRecord(1, "0" * 64)),
        ("categories.lance/a\0b", FileRecord(1, "0" * 64)),
        ("categories.lance/" + "a" * 300, FileRecord(1, "0" * 64)),
        ("categories.lance/../../a", FileRecord(1, "0" * 64)),
        ("../a", FileRecord(1, "0" * 64)),
        ("/etc/passwd", FileRecord(1, "0" * 64)),
        ("categories.lance//a", FileRecord(1, "0" * 64)),
    ],
)
def test_a_hostile_list_of_files_fetches_nothing(
    path, record, address, filled, elsewhere, objects, object_store, encoder
):
    publish(objects, with_file(manifest_at(objects), path, record))
    elsewhere()
    with object_store.requests() as requests, pytest.raises(MemoryDamaged) as refusal:
        Memory.open(address)
    assert str(refusal.value).isprintable()
    assert {key for _, key, _ in requests} == {MANIFEST_NAME, CALIBRATION}


def test_hostile_tables_sizes_and_manifests_are_refused(
    address, filled, elsewhere, objects, object_store, encoder, monkeypatch
):
    manifest = manifest_at(objects)
    publish(objects, with_file(manifest, "categories.lance/data/huge", FileRecord(2**60, "0" * 64)))
    elsewhere()
    with pytest.raises(ObjectStoreError, match=r"MiB are to be fetched, and .* MiB are free"):
        Memory.open(address)
    publish(objects, replace(manifest, tables={"..": replace(manifest.tables["categories"], files={})}))
    with pytest.raises(MemoryDamaged, match=r"lists the table '\.\.', which no memory has"):
        Memory.open(address)
    monkeypatch.setitem(MOST_BYTES, MANIFEST_NAME, 100)
    with pytest.raises(ObjectStoreError, match="more than the 100 that such a file may have"):
        Memory.open(address)
    objects.put(MANIFEST_NAME, b"[" * 90)
    with pytest.raises(MemoryDamaged):
        Memory.open(address)


def test_an_index_list_names_files_of_the_index_alone():
    record = FileRecord(1, "0" * 64)
    assert read_index_list(index_list({"index/a": record}), "there") == {"index/a": record}
    for path in ("MEMORY.json", "index/../a", "index//a", "indexes/a", "index/\x1b"):
        with pytest.raises(MemoryDamaged):
            read_index_list(index_list({path: record}), "there")
    for data in (b"", b"{}", json.dumps({"files": {"index/a": asdict(record)}}).encode()):
        with pytest.raises(MemoryDamaged):
            read_index_list(data, "there")


def test_the_mirror_is_for_its_user_alone_and_holds_two_versions(address, filled, encoder):
    memory = Memory.open(address)
    for number in range(3):
        memory.add([Category(f"emu {number}")], encoder=encoder)
    folder = cache_folder("memories", Address.parse(address))
    versions = [entry for entry in folder.iterdir() if entry.name.startswith("v-")]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(versions) == 2
    assert memory.directory in versions
    assert Snapshots(Address.parse(address)).current().directory == memory.directory


def test_readers_of_this_machine_share_one_fetch(address, filled, elsewhere, object_store, encoder):
    elsewhere()
    snapshots = Snapshots(Address.parse(address))
    with object_store.requests() as requests, ThreadPoolExecutor(2) as pool:
        with snapshots.locked():
            waiting = [pool.submit(Memory.open, address) for _ in range(2)]
        directories = {future.result().directory for future in waiting}
    assert directories == {snapshots.refresh().directory}
    assert sum(key.endswith(".lance") for _, key, _ in requests) <= 1
