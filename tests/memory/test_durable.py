import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memory import MemoryLocked, MemoryStoreError
from memory.durable import (
    FileRecord,
    WriterLock,
    draft_name,
    file_sha256,
    make_folder,
    record_files,
    replacing,
    sync_folder,
    sync_with_folders,
    system_reason,
    try_lock,
)
from memory.errors import WriteFailed

DATA = bytes(range(256)) * 9000  # more than one block of any buffer


def test_a_record_is_size_and_sha256(tmp_path):
    (tmp_path / "b").write_bytes(DATA)
    (tmp_path / "a").write_bytes(b"")
    records = record_files(tmp_path, {"b", "a"})
    assert list(records) == ["a", "b"]
    assert records["b"] == FileRecord(len(DATA), hashlib.sha256(DATA).hexdigest())
    assert records["a"] == FileRecord(0, hashlib.sha256().hexdigest())
    assert file_sha256(tmp_path / "b") == file_sha256(os.fsencode(tmp_path / "b")) == records["b"].sha256


def test_a_file_is_replaced_only_when_its_draft_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail_half_way():
        with replacing(path) as draft:
            draft.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    with replacing(path) as draft:
        draft.write_bytes(b"new")
        assert draft.parent == tmp_path
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_draft_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("memory.durable.sync_file", lambda path: calls.append(path.name))
    monkeypatch.setattr("os.replace", lambda draft, path: calls.append("replace"))
    with replacing(tmp_path / "file") as draft:
        draft.touch()
    assert calls == [draft.name, "replace", tmp_path.name]


def test_what_the_disk_refuses_is_named_with_its_file(tmp_path):
    with (
        pytest.raises(WriteFailed, match=r"none/a\\x1b: cannot be written: No such file"),
        replacing(tmp_path / "none" / "a\x1b") as draft,
    ):
        draft.write_bytes(b"x")


def test_files_are_synced_before_their_folders_and_inner_folders_first(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    calls = []
    monkeypatch.setattr("memory.durable.sync_file", lambda path: calls.append(path.relative_to(tmp_path).as_posix()))
    sync_with_folders(tmp_path, ["a/b/1", "2"])
    assert calls == ["a/b/1", "2", "a/b", "a", "."]


def test_a_new_folder_is_synced_with_those_above_it_that_are_new(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("memory.durable.sync_file", lambda path: calls.append(path.relative_to(tmp_path).as_posix()))
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert sorted(calls) == [".", "a"]
    make_folder(tmp_path / "a")
    assert len(calls) == 2


def test_the_reason_of_a_failed_write_outlives_a_draft_that_cannot_be_deleted(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.replace", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(WriteFailed, match="file: cannot be written: Input/output error"), replacing(tmp_path / "file"):
        (tmp_path / draft_name("file")).touch()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "Read-only\x1b"), r"Read-only\x1b"),
        (RuntimeError("LanceError(IO): failed: No room (os error 28), /build/x.rs:1"), "No space left on device"),
        (RuntimeError("panicked"), "panicked"),
    ],
)
def test_the_words_of_the_system_are_found_in_those_of_a_library(error, reason):
    assert system_reason(error) == reason


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path):
    sync_folder(tmp_path / "none")


HOLD = """
import os, sys
from memory.durable import try_lock
descriptor = os.open(sys.argv[1], os.O_RDWR)
print(try_lock(descriptor), flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_by_one_process_and_released_with_it(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    command = [sys.executable, "-c", HOLD, str(path)]
    descriptor = os.open(path, os.O_RDWR)
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as other:
            assert other.stdout.readline() == "True\n"
            assert not try_lock(descriptor)
            other.kill()
        assert try_lock(descriptor)
    finally:
        os.close(descriptor)


def test_a_second_writer_learns_who_writes(tmp_path):
    with (
        WriterLock(tmp_path),
        pytest.raises(MemoryLocked, match=rf"written by process {os.getpid()}\. Wait"),
        WriterLock(tmp_path, wait_seconds=0),
    ):
        pass
    with WriterLock(tmp_path, wait_seconds=0):
        pass


def test_a_lock_in_a_missing_folder_is_refused_with_a_remedy(tmp_path):
    with (
        pytest.raises(MemoryStoreError, match=r"cannot be written .*Give write permission"),
        WriterLock(tmp_path / "no"),
    ):
        pass
