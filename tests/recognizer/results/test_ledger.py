import hashlib
import os

import pytest

from recognizer.results.ledger import (
    BatchRecord,
    ImageStamp,
    Ledger,
    first_changed,
    has_changed,
    parse_record,
    read_ledger,
    stamp_file,
    write_ledger,
)

STAMP = ImageStamp(3, 1_700_000_000_123_456_789, "ab" * 32)
ROWS = [b'{"a":0}\n{"b":1}\n', b'{"c":2}\n{"d":3}\n', b'{"e":4}\n']


@pytest.fixture
def journal(tmp_path):
    """A journal of three batches of two rows, the last of one row, and its ledger."""
    records = [BatchRecord.of(number, data.count(b"\n"), data, [STAMP]) for number, data in enumerate(ROWS)]
    (tmp_path / "journal").write_bytes(b"".join(ROWS))
    write_ledger(tmp_path / "ledger", records)
    return tmp_path / "journal"


def states(journal):
    """Per batch whether it is intact."""
    stretches = list(Ledger(journal.with_name("ledger")).stretches(journal, 2))
    assert b"".join(each.data for each in stretches) == journal.read_bytes()[: sum(len(s.data) for s in stretches)]
    return [each.record is not None for each in stretches]


def test_a_line_is_read_as_it_was_written_and_no_flipped_bit_is_missed():
    record = BatchRecord.of(7, 2, b"rows", [STAMP, None, ImageStamp(1, 2)])
    line = record.to_line()
    assert parse_record(line) == record
    assert parse_record(BatchRecord.of(7, 2, b"rows", None).to_line()).images is None
    for position in range(len(line) * 8):
        flipped = bytearray(line)
        flipped[position // 8] ^= 1 << position % 8
        assert parse_record(bytes(flipped)) is None
    assert all(parse_record(line[:end]) is None for end in range(len(line)))


def test_every_flipped_bit_of_the_rows_is_seen_in_its_batch(journal):
    whole = journal.read_bytes()
    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        journal.write_bytes(flipped)
        assert states(journal) == [not start <= position // 8 < start + 16 for start in (0, 16, 32)]


def test_a_damaged_line_of_the_ledger_costs_its_batch_only(journal):
    ledger = journal.with_name("ledger")
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0] + lines[1].replace(b"7", b"8", 1).replace(b"1", b"2", 1) + lines[2])
    assert states(journal) == [True, False, True]


def test_a_journal_that_is_cut_short_ends_with_its_last_whole_batch(journal):
    whole = journal.read_bytes()
    for length in range(len(whole)):
        journal.write_bytes(whole[:length])
        assert states(journal) == [True] * (length // 16)


def test_lines_that_nothing_matches_are_dropped_when_the_ledger_is_opened(journal):
    ledger = Ledger(journal.with_name("ledger"))
    ledger.open(3)
    before = ledger.path.read_bytes()
    other = BatchRecord.of(1, 2, b"other rows", None)
    ledger.append([other])
    ledger.close()
    ledger.path.write_bytes(ledger.path.read_bytes() + b'{"torn')
    opened = Ledger(ledger.path)
    assert [stretch.record is not None for stretch in opened.stretches(journal, 2)] == [True, True, True]
    opened.open(3)
    opened.close()
    assert ledger.path.read_bytes() == before
    shorter = Ledger(ledger.path)
    shorter.open(1)
    shorter.close()
    assert [record.batch for record in read_ledger(ledger.path)] == [0]


def test_a_file_has_changed_only_if_its_content_has(tmp_path):
    image = tmp_path / "a.jpg"
    image.write_bytes(b"one")
    stamp = stamp_file(image)
    stamp = ImageStamp(stamp.size, stamp.mtime_ns, hashlib.sha256(b"one").hexdigest())
    assert not has_changed(image, stamp)
    os.utime(image, ns=(1, 1))
    assert not has_changed(image, stamp)
    assert has_changed(image, ImageStamp(stamp.size, stamp.mtime_ns))  # it could not be read then
    image.write_bytes(b"two")
    os.utime(image, ns=(1, 1))
    assert has_changed(image, stamp)
    os.utime(image, ns=(1, stamp.mtime_ns))
    assert not has_changed(image, stamp)  # same size and mtime: the file is not read
    image.write_bytes(b"longer")
    os.utime(image, ns=(1, stamp.mtime_ns))
    assert has_changed(image, stamp)
    image.unlink()
    assert stamp_file(image) is None
    assert not has_changed(image, stamp)
    assert not has_changed(image, None)
    image.write_bytes(b"new")
    assert has_changed(image, None)


def test_the_first_changed_image_of_a_batch_is_named(tmp_path):
    for number in range(6):
        (tmp_path / str(number)).write_bytes(b"x")
    stamps = [ImageStamp(1, stamp_file(tmp_path / str(n)).mtime_ns, "0") for n in range(3, 6)]
    record = BatchRecord.of(1, 3, b"", stamps)
    assert first_changed(record, 3, lambda number: tmp_path / str(number)) is None
    (tmp_path / "5").write_bytes(b"xy")
    assert first_changed(record, 3, lambda number: tmp_path / str(number)) == 5
