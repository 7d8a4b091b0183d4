import contextlib
import errno
import io
import os

import pytest

from recognizer.results import OutputUnusable, ResumeRefused, encode_row
from recognizer.results.journal import Journal

COUNT, SIZE = 11, 4
KEYS = [f"{number:03d}.jpg" for number in range(COUNT)]


@pytest.fixture
def rows(make_row):
    return [make_row(number, bad={2, 9}) for number in range(COUNT)]


def ledger_of(path):
    return path.with_name(path.name + ".batches.jsonl")


def open_journal(path, *, keys=KEYS, size=SIZE, **options):
    return Journal(path, ledger_path=ledger_of(path), keys=keys, batch_size=size, **options)


def write(path, rows, *, keys=KEYS, size=SIZE, stop=None, **options):
    with contextlib.closing(open_journal(path, keys=keys, size=size, **options)) as journal:
        for number in range(len(journal.spans), stop if stop is not None else -(-len(keys) // size)):
            journal.append(rows[number * size : (number + 1) * size])
    return journal


def test_the_journal_is_the_rows_in_order(tmp_path, rows):
    journal = write(tmp_path / "sub" / "out.jsonl", rows)
    assert journal.path.read_bytes() == b"".join(map(encode_row, rows))
    assert journal.done_rows == COUNT
    assert [(span.ok, dict(span.errors)) for span in journal.spans] == [
        (3, {"E_TRUNCATED": 1}),
        (4, {}),
        (2, {"E_TRUNCATED": 1}),
    ]


def test_cut_anywhere_and_resumed_gives_the_same_bytes(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of files
    path = tmp_path / "out.jsonl"
    whole = write(path, rows).path.read_bytes()
    ledger = ledger_of(path).read_bytes()
    grid = [0, *(span.end for span in write(path, rows).spans)]
    lengths = [len(encode_row(row)) for row in rows]
    ends = [sum(lengths[:number]) for number in range(COUNT + 1)]
    # Every byte of a row with an error, the last bytes of every row, and some of all others.
    cuts = {*range(ends[9], ends[10]), *(end - byte for end in ends[1:] for byte in (0, 1, 2)), *range(0, ends[-1], 97)}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        ledger_of(path).write_bytes(ledger)
        kept = write(path, rows, stop=0).spans
        assert path.stat().st_size == (kept[-1].end if kept else 0) == max(end for end in grid if end <= cut)
        write(path, rows)
        assert path.read_bytes() == whole
        assert ledger_of(path).read_bytes() == ledger


@pytest.mark.parametrize(
    "tail", [b"\0" * 5000, b"\0" * 10 + b"\n", b'{"path":"008.jpg","status":"ok"\0\0}\n', b"{", b"\n"[:0]]
)
def test_what_a_power_failure_leaves_is_cut_off(tmp_path, rows, tail):
    path = tmp_path / "out.jsonl"
    whole = write(path, rows, stop=2).path.read_bytes()
    path.write_bytes(whole + tail)
    assert write(path, rows, stop=2).path.read_bytes() == whole


def test_other_rows_are_refused_and_left_alone(tmp_path, rows, make_row):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    before = path.read_bytes()
    for keys, said in [
        (["000.jpg", "new.jpg", *KEYS[1:]], "line 2: expected the row of 'new.jpg', found '001.jpg'"),
        (KEYS[:-1], "more rows than the 10 images"),
        ([key + '"' for key in KEYS], "line 1: expected"),
    ]:
        with pytest.raises(ResumeRefused, match=said):
            open_journal(path, keys=keys)
        assert path.read_bytes() == before
    for foreign in (b"my notes\n", b'{"path":"000.jpg","status":"odd"}\n', b"[1]\n", b'{"x": 1}\n'):
        path.write_bytes(foreign)
        ledger_of(path).unlink(missing_ok=True)
        with pytest.raises(ResumeRefused, match="--overwrite"):
            open_journal(path)
        assert path.read_bytes() == foreign
    write(path, rows, overwrite=True)
    assert path.read_bytes() == before


def test_more_images_at_the_end_are_added(tmp_path, rows, make_row):
    path = tmp_path / "out.jsonl"
    write(path, rows[:9], keys=KEYS[:9])
    assert write(path, rows, stop=0).done_rows == 8
    assert write(path, rows).path.read_bytes() == b"".join(map(encode_row, rows))


def test_odd_keys_are_found_again(tmp_path, make_row):
    keys = ['a"b.jpg', "a\nb.jpg", "b\\xff.jpg", "\u2028.jpg", "🐈.jpg", "c\ud800.jpg"]
    rows = [make_row(number, key=key) for number, key in enumerate(keys)]
    write(tmp_path / "out.jsonl", rows, keys=keys, size=2)
    assert write(tmp_path / "out.jsonl", rows, keys=keys, size=2, stop=0).done_rows == 6


def test_rows_of_other_images_are_a_mistake_of_the_caller(tmp_path, rows):
    journal = open_journal(tmp_path / "out.jsonl")
    for wrong in (rows[:3], rows[1:5], rows[:5]):
        with pytest.raises(ValueError, match="does not match its 4 images"):
            journal.append(wrong)
    journal.close()
    assert journal.path.read_bytes() == b""


def test_outputs_that_cannot_be_written(tmp_path, rows):
    (tmp_path / "file").touch()
    with pytest.raises(OutputUnusable, match="cannot be written"):
        open_journal(tmp_path / "file" / "out.jsonl")
    with pytest.raises(OutputUnusable, match="cannot be written"):
        open_journal(tmp_path)
    running = open_journal(tmp_path / "out.jsonl")
    with pytest.raises(OutputUnusable, match="another run"):
        open_journal(tmp_path / "out.jsonl")
    running.close()
    running.close()
    write(tmp_path / "out.jsonl", rows)


def test_a_full_disk_is_an_error_that_can_be_resumed(tmp_path, rows, monkeypatch):
    journal = open_journal(tmp_path / "out.jsonl")
    journal.append(rows[:4])
    data = b"".join(map(encode_row, rows[4:8]))

    def fill(stream, data):
        stream.write(data[:100])
        raise OSError(28, "No space left on device")

    for module in ("journal", "ledger"):
        monkeypatch.setattr(f"recognizer.results.{module}.write_all", fill)
        size = len(data) if module == "journal" else r"\d+"
        with pytest.raises(OutputUnusable, match=f"writing {size} bytes failed: No space left on device; the rows wri"):
            journal.append(rows[4:8])
        monkeypatch.undo()
    journal.append(rows[4:8])
    journal.close()
    assert write(journal.path, rows).path.read_bytes() == b"".join(map(encode_row, rows))


class Unwilling(io.FileIO):
    """A file on a disk that refuses."""

    def truncate(self, size=None):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_refuses_to_cut_off_a_torn_batch_is_a_sentence(tmp_path, rows, monkeypatch):
    path = tmp_path / "out.jsonl"
    write(path, rows, stop=1)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("recognizer.results.journal.open_locked", lambda path: Unwilling(path, "rb+"))
        for overwrite in (False, True):
            with pytest.raises(OutputUnusable, match=r"out\.jsonl: cannot be written: Input/output error"):
                open_journal(path, overwrite=overwrite)
    assert path.read_bytes() == before
