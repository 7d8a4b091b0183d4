import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest

from memory import MemoryStoreError
from memory.errors import WriteFailed
from memory.store import TableStore

COLUMNS = pa.schema([("id", pa.string())])


def rows(*ids):
    return [pa.RecordBatch.from_arrays([pa.array([i])], schema=COLUMNS) for i in ids]


def stored(store, record):
    return [i for batch in store.scan("t", record, ["id"]) for i in batch.column("id").to_pylist()]


@pytest.fixture
def store(tmp_path):
    return TableStore(tmp_path)


def test_every_write_is_a_version_of_its_own_until_it_is_swept(store):
    one = store.replace("t", None, COLUMNS, rows("a", "b"))
    two = store.append("t", one, COLUMNS, rows("c"))
    three = store.delete("t", two, "id", ["a"])
    assert [stored(store, record) for record in (one, two, three)] == [["a", "b"], ["a", "b", "c"], ["b", "c"]]
    assert [record.rows for record in (one, two, three)] == [store.count("t", r) for r in (one, two, three)]
    assert [len(store.newer_manifests("t", record)) for record in (one, two, three)] == [2, 1, 0]
    store.sweep(["t"], {"t": three})
    assert store.files("t") == set(three.files)
    assert stored(store, three) == ["b", "c"]
    with pytest.raises((RuntimeError, ValueError, OSError)):
        store.count("t", one)


def test_a_write_that_was_not_recorded_is_swept_away(store):
    one = store.replace("t", None, COLUMNS, rows("a"))
    two = store.append("t", one, COLUMNS, rows("b"))
    assert store.newer_manifests("t", one) == [file for file in two.files if file.endswith(".manifest")]
    with pytest.raises(MemoryStoreError, match="'t' is at version 2, the memory at 1"):
        store.append("t", one, COLUMNS, rows("c"))
    store.sweep(["t"], {"t": one})
    assert store.files("t") == set(one.files)
    assert stored(store, store.append("t", one, COLUMNS, rows("c"))) == ["a", "c"]


def test_a_table_of_no_rows_is_not_stored(store, tmp_path):
    assert store.replace("t", None, COLUMNS, []) is None
    store.replace("t", None, COLUMNS, rows("a"))
    store.sweep(["t"])
    assert not (tmp_path / "t.lance").exists()


def test_a_table_can_be_rewritten_from_itself(store):
    one = store.replace("t", None, COLUMNS, rows("a", "b"))
    two = store.replace("t", one, COLUMNS, store.scan("t", one, ["id"]))
    assert stored(store, two) == ["a", "b"]
    assert not {f for f in two.files if f.endswith(".lance")} & {f for f in one.files if f.endswith(".lance")}


@pytest.mark.parametrize("value", ["", "x' OR '1'='1", "A", "12g"])
def test_only_hexadecimal_ids_are_deleted(store, value):
    one = store.replace("t", None, COLUMNS, rows("a"))
    with pytest.raises(ValueError, match="hexadecimal"):
        store.delete("t", one, "id", ["a", value])
    assert store.count("t", one) == 1


def test_more_ids_than_a_condition_holds_are_deleted(store):
    ids = [f"{number:x}" for number in range(4_100)]
    one = store.replace("t", None, COLUMNS, [pa.RecordBatch.from_arrays([pa.array(ids)], schema=COLUMNS)])
    rest = store.delete("t", one, "id", ids[:-1])
    assert stored(store, rest) == ids[-1:]
    assert sum(file.endswith(".manifest") for file in rest.files) == 1


def test_manifests_are_deleted_before_the_data_that_they_name(store, monkeypatch):
    one = store.replace("t", None, COLUMNS, rows("a"))
    two = store.append("t", one, COLUMNS, rows("b"))
    unlink, order = Path.unlink, []

    def watched(path, missing_ok=False):
        order.append(path.suffix == ".manifest")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    store.delete_files({*one.files, *two.files})
    # Killed at any point of it, Lance finds no manifest whose data is gone.
    assert order == sorted(order, reverse=True)
    assert sum(order) == 2
    assert len(order) > 3


def test_an_error_of_the_source_is_raised_as_it_is(store):
    def failing():
        yield from rows("a")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.replace("t", None, COLUMNS, failing())


def test_what_lance_cannot_write_is_a_sentence_and_leaves_no_file(store, tmp_path):
    one = store.replace("t", None, COLUMNS, rows("a", "b"))
    before = store.files("t")
    (tmp_path / "t.lance" / "_transactions").rename(tmp_path / "moved")
    (tmp_path / "t.lance" / "_transactions").touch()
    for write in (lambda: store.delete("t", one, "id", ["a"]), lambda: store.append("t", one, COLUMNS, rows("c"))):
        with pytest.raises(WriteFailed, match=r"t\.lance: cannot be written: File exists$"):
            write()
    (tmp_path / "t.lance" / "_transactions").unlink()
    (tmp_path / "moved").rename(tmp_path / "t.lance" / "_transactions")
    assert store.files("t") == before


def test_a_full_disk_names_the_room_that_all_rows_need(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    batches = rows("a" * 3 * 2**20, "b" * 2**20)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(WriteFailed, match=r"No space left on device\. [\d.]+ MiB are free and 4\.0 MiB are needed"):
            store.replace("t", None, COLUMNS, batches)
    assert not store.files("t")


@pytest.mark.parametrize("suffix", [".lance", ".manifest", ".arrow"])
def test_a_file_that_lance_wrote_in_part_only_is_an_error(store, monkeypatch, suffix):
    one = store.replace("t", None, COLUMNS, rows("a", "b"))
    before = store.files("t")

    def cut(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.suffix == suffix:
            os.truncate(path, path.stat().st_size - 1)

    def write():
        return store.delete("t", one, "id", ["a"]) if suffix == ".arrow" else store.append("t", one, COLUMNS, rows("c"))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", cut)
        with pytest.raises(WriteFailed, match=rf"{suffix} ends too early\. Look for a full disk"):
            write()
    assert store.files("t") == before
    assert write().rows in (1, 3)


def test_a_file_that_cannot_be_deleted_is_named(store, monkeypatch):
    record = store.replace("t", None, COLUMNS, rows("a"))

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(WriteFailed, match=r"manifest: cannot be written: Read-only file system"):
        store.delete_files(record.files)
