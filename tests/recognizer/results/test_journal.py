import contextlib
import errno
import io
import os
from dataclasses import replace

import pytest

from recognizer.results import OutputUnusable, ResultsIncomplete, ResumeRefused, encode_row
from recognizer.results.journal import open_journal, read_journal
from recognizer.results.ledger import ImageStamp, read_ledger
from recognizer.results.row import RowBox

COUNT, SIZE = 11, 4
KEYS = [f"{number:03d}.jpg" for number in range(COUNT)]


@pytest.fixture
def rows(make_row):
    return [make_row(number, bad={2, 9}) for number in range(COUNT)]


def ledger_of(path):
    return path.with_name(path.name + ".images.jsonl")


def opened(path, **options):
    journal, content = open_journal(path, ledger_of(path), **options)
    return contextlib.closing(journal), content


def write(path, rows, images=None, **options):
    """Append the rows that the journal lacks, in batches; returns what it held before."""
    closing, content = opened(path, **options)
    with closing as journal:
        new = [row for row in rows if row.path not in content.rows]
        for start in range(0, len(new), SIZE):
            journal.append(new[start : start + SIZE], images and images[start : start + SIZE])
    return content


def content_of(path):
    return read_journal(path, read_ledger(ledger_of(path)))


def bytes_of(rows):
    return b"".join(map(encode_row, rows))


def test_the_journal_is_the_rows_as_they_came_and_knows_each_by_its_image(tmp_path, rows):
    path = tmp_path / "sub" / "out.jsonl"
    images = [ImageStamp(number, 1, "ab") for number in range(COUNT)]
    assert write(path, rows, images).rows == {}
    assert path.read_bytes() == bytes_of(rows)
    content = content_of(path)
    assert list(content.rows) == KEYS
    assert (content.end, content.damaged) == (path.stat().st_size, 0)
    for number, row in enumerate(content.rows.values()):
        assert path.read_bytes()[row.start : row.end] == encode_row(rows[number])
        assert row.entry.image == images[number]
        assert row.entry.error == ("E_TRUNCATED" if number in (2, 9) else None)


def test_cut_anywhere_and_resumed_gives_the_same_bytes(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of files
    path = tmp_path / "out.jsonl"
    write(path, rows)
    whole, ledger = path.read_bytes(), ledger_of(path).read_bytes()
    ends = [0, *(row.end for row in content_of(path).rows.values())]
    # Every byte of a row with an error, the last bytes of every row, and some of all others.
    cuts = {*range(ends[9], ends[10]), *(end - byte for end in ends[1:] for byte in (0, 1, 2)), *range(0, ends[-1], 97)}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        ledger_of(path).write_bytes(ledger)
        kept = sum(end <= cut for end in ends) - 1
        content = write(path, [])
        assert (len(content.rows), content.damaged) == (kept, COUNT - kept)
        assert path.stat().st_size == content.end == ends[kept]
        write(path, rows)
        assert path.read_bytes() == whole
        assert content_of(path).damaged == 0


def test_rows_that_the_ledger_does_not_know_were_being_written_and_are_cut_off(tmp_path, rows):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    lines = ledger_of(path).read_bytes().splitlines(keepends=True)
    for kept in range(COUNT):
        for torn in (b"", lines[kept][:-1], lines[kept][:5]):
            path.write_bytes(bytes_of(rows))
            ledger_of(path).write_bytes(b"".join(lines[:kept]) + torn)
            content = write(path, [])
            assert (list(content.rows), content.damaged) == (KEYS[:kept], 0)
            assert path.read_bytes() == bytes_of(rows[:kept])
            write(path, rows)
            assert path.read_bytes() == bytes_of(rows)
            assert len(content_of(path).rows) == COUNT


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\0" * 10 + b"\n", b'{"path":"008.jpg","status":"ok"\0\0}\n', b"{"])
@pytest.mark.parametrize("has_ledger", [True, False])
def test_what_a_power_failure_leaves_is_cut_off(tmp_path, rows, tail, has_ledger):
    path = tmp_path / "out.jsonl"
    write(path, rows[:8])
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    if not has_ledger:
        ledger_of(path).unlink()
    assert write(path, []).damaged == 0
    assert path.read_bytes() == whole


def test_a_damaged_row_or_line_of_the_ledger_costs_its_image_only(tmp_path, rows):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    path.write_bytes(path.read_bytes().replace(b'"005.jpg"', b'"555.jpg"'))
    ledger_of(path).write_bytes(ledger_of(path).read_bytes().replace(b'"007.jpg"', b'"777.jpg"'))
    content = write(path, rows)
    assert content.damaged == 2
    assert [key for key in KEYS if key not in content.rows] == ["005.jpg", "007.jpg"]
    assert (len(content_of(path).rows), content_of(path).damaged) == (COUNT, 0)


def test_the_last_row_of_an_image_counts(tmp_path, rows, make_row):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    healed = [make_row(2), make_row(9)]
    with opened(path)[0] as journal:
        journal.append(healed)
    content = content_of(path)
    assert (len(content.rows), content.damaged) == (COUNT, 0)
    assert all(row.entry.error is None for row in content.rows.values())
    assert path.read_bytes() == bytes_of([*rows, *healed])


@pytest.mark.parametrize("keys", [KEYS[::-1], ["007.jpg", "000.jpg"], []])
def test_arranged_are_the_rows_of_the_images_that_are_asked_for(tmp_path, rows, keys):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    with opened(path)[0] as journal:
        journal.arrange(keys)
    expected = bytes_of(rows[KEYS.index(key)] for key in keys)
    assert path.read_bytes() == expected
    assert list(content_of(path).rows) == keys
    assert content_of(path).damaged == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.images.jsonl"]


def test_a_kill_while_rows_are_arranged_loses_none_of_them(tmp_path, rows, monkeypatch):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    wanted = [key for key in reversed(KEYS) if key != "003.jpg"]

    def die(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("recognizer.results.journal.replacing", die)
    with opened(path)[0] as journal, pytest.raises(KeyboardInterrupt):
        journal.arrange(wanted)
    monkeypatch.undo()
    assert path.read_bytes() == bytes_of(rows)
    content = write(path, [])
    assert (set(content.rows), content.damaged) == (set(wanted), 0)


def test_rows_that_are_damaged_while_a_run_lasts_are_not_arranged(tmp_path, rows):
    path = tmp_path / "out.jsonl"
    write(path, rows)
    with opened(path)[0] as journal:
        damaged = path.read_bytes().replace(b'"005.jpg"', b'"555.jpg"')
        path.write_bytes(damaged)
        with pytest.raises(OutputUnusable, match=r"1 rows of .*out\.jsonl were damaged while it was written"):
            journal.arrange(KEYS[::-1])
    assert path.read_bytes() == damaged


def test_files_of_others_are_refused_and_left_alone(tmp_path, rows):
    path = tmp_path / "out.jsonl"
    for foreign in (b"my notes\n", b'{"path":"000.jpg","status":"error"}\n', b"[1]\n", b'{"x": 1}\n'):
        path.write_bytes(foreign)
        with pytest.raises(ResumeRefused, match=r"line \d: this is not a result row; use --overwrite"):
            opened(path)
        assert path.read_bytes() == foreign
        assert not ledger_of(path).exists()
    write(path, rows, overwrite=True)
    assert path.read_bytes() == bytes_of(rows)
    assert write(path, rows, overwrite=True).rows == {}


def test_boxes_of_one_image_are_rows_of_their_own_with_and_without_a_ledger(tmp_path, make_row):
    path = tmp_path / "r.jsonl"
    rows = [replace(make_row(0), box=RowBox(id=name)) for name in "ab"]
    write(path, rows)
    keys = [row.key for row in rows]
    assert list(content_of(path).rows) == keys
    ledger_of(path).unlink()
    assert list(write(path, []).rows) == keys


def test_odd_keys_are_found_again(tmp_path, make_row):
    keys = ['a"b.jpg', "a\nb.jpg", "b\\xff.jpg", "\u2028.jpg", "🐈.jpg", "c\ud800.jpg"]
    rows = [make_row(number, key=key) for number, key in enumerate(keys)]
    path = tmp_path / "out.jsonl"
    write(path, rows)
    assert list(write(path, rows).rows) == keys
    ledger_of(path).unlink()
    assert list(write(path, []).rows)[:5] == keys[:5]


def test_outputs_that_cannot_be_written(tmp_path, rows):
    (tmp_path / "file").touch()
    with pytest.raises(OutputUnusable, match="cannot be written"):
        opened(tmp_path / "file" / "out.jsonl")
    with pytest.raises(OutputUnusable, match="cannot be written"):
        opened(tmp_path)
    with opened(tmp_path / "out.jsonl")[0] as running:
        with pytest.raises(OutputUnusable, match="another run"):
            opened(tmp_path / "out.jsonl")
        running.close()
    write(tmp_path / "out.jsonl", rows)


@pytest.mark.parametrize("module", ["journal", "ledger"])
def test_a_full_disk_is_an_error_that_can_be_resumed(tmp_path, rows, monkeypatch, module):
    path = tmp_path / "out.jsonl"
    size = len(bytes_of(rows[4:8])) if module == "journal" else r"\d+"

    def fill(stream, data):
        stream.write(data[:100])
        raise OSError(28, "No space left on device")

    with opened(path)[0] as journal:
        journal.append(rows[:4])
        monkeypatch.setattr(f"recognizer.results.{module}.write_all", fill)
        with pytest.raises(OutputUnusable, match=f"writing {size} bytes failed: No space left on device; the rows wri"):
            journal.append(rows[4:8])
        monkeypatch.undo()
        journal.append(rows[4:8])
    assert len(write(path, rows).rows) == 8
    assert path.read_bytes() == bytes_of(rows)


def test_a_row_that_is_encoded_to_two_lines_is_not_written(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("recognizer.results.journal.encode_row", lambda row: b"{}\n{}\n")
    with pytest.raises(ResultsIncomplete, match="in 8 lines"):
        write(tmp_path / "out.jsonl", rows)
    assert (tmp_path / "out.jsonl").read_bytes() == b""


class Unwilling(io.FileIO):
    """A file on a disk that refuses."""

    def truncate(self, size=None):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_refuses_to_cut_off_a_torn_batch_is_a_sentence(tmp_path, rows, monkeypatch):
    path = tmp_path / "out.jsonl"
    write(path, rows[:4])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("recognizer.results.journal.open_locked", lambda path: Unwilling(path, "rb+"))
        for overwrite in (False, True):
            with pytest.raises(OutputUnusable, match=r"out\.jsonl: cannot be written: Input/output error"):
                opened(path, overwrite=overwrite)
    assert path.read_bytes() == before
    assert len(write(path, []).rows) == 4
