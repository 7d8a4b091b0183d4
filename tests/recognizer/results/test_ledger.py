import hashlib
import os

import pytest

from recognizer.results.ledger import (
    ImageStamp,
    Ledger,
    LedgerEntry,
    parse_entry,
    read_ledger,
    restamp_file,
    row_digest,
    stamp_file,
    write_ledger,
)

STAMP = ImageStamp(3, 1_700_000_000_123_456_789, "ab" * 32)


def entry(key, *, row=b"row", error=None, image=STAMP):
    return LedgerEntry(key, row_digest(row), error, image)


@pytest.mark.parametrize(
    "one",
    [
        entry("a.jpg"),
        entry('a"\u2028\ud800b.jpg', error="E_EMPTY", image=ImageStamp(1, 2)),
        entry("gone", error="E_MISSING", image=ImageStamp(-1, 0)),
        entry("unknown", image=None),
    ],
)
def test_a_line_is_read_as_it_was_written_and_no_flipped_bit_is_missed(one):
    line = one.to_line()
    assert parse_entry(line) == one
    for position in range(len(line) * 8):
        flipped = bytearray(line)
        flipped[position // 8] ^= 1 << position % 8
        assert parse_entry(bytes(flipped)) is None
    assert all(parse_entry(line[:end]) is None for end in range(len(line)))


def test_the_last_line_of_an_image_counts_and_damage_is_counted(tmp_path):
    path = tmp_path / "ledger"
    write_ledger(path, [entry("a"), entry("b")])
    ledger = Ledger(path)
    ledger.append([entry("a", row=b"newer")])
    ledger.append([entry("c")], sync=True)
    ledger.close()
    ledger.close()
    content = read_ledger(path)
    assert content.entries == {"a": entry("a", row=b"newer"), "b": entry("b"), "c": entry("c")}
    assert (content.damaged, content.torn) == (0, False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"b"', b'"B"') + b'{"path":')
    content = read_ledger(path)
    assert (list(content.entries), content.damaged, content.torn) == (["a", "c"], 1, True)
    path.write_bytes(b"")
    assert (read_ledger(path).entries, read_ledger(path).torn) == ({}, False)


def changed(path, stamp):
    return not stamp.is_same(restamp_file(path, stamp))


def test_a_file_has_changed_only_if_its_content_has(tmp_path):
    image = tmp_path / "a.jpg"
    image.write_bytes(b"one")
    stamp = stamp_file(image)
    assert stamp.exists
    stamp = ImageStamp(stamp.size, stamp.mtime_ns, hashlib.sha256(b"one").hexdigest())
    assert not changed(image, stamp)
    os.utime(image, ns=(1, 1))
    assert not changed(image, stamp)
    assert changed(image, ImageStamp(stamp.size, stamp.mtime_ns))  # it could not be read then
    assert restamp_file(image, stamp) == ImageStamp(stamp.size, 1, stamp.sha256)
    image.write_bytes(b"two")
    os.utime(image, ns=(1, 1))
    assert changed(image, stamp)
    os.utime(image, ns=(1, stamp.mtime_ns))
    assert not changed(image, stamp)  # same size and mtime: the file is not read
    image.write_bytes(b"longer")
    os.utime(image, ns=(1, stamp.mtime_ns))
    assert changed(image, stamp)


def test_a_file_that_goes_or_comes_has_changed(tmp_path):
    image = tmp_path / "a.jpg"
    missing = stamp_file(image)
    assert not missing.exists
    assert not changed(image, missing)
    assert changed(image, STAMP)
    image.write_bytes(b"")
    assert changed(image, missing)
    assert stamp_file(b"zero\0byte") == missing
