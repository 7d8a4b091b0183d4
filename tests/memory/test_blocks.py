import hashlib

import pytest

from memory.blocks import CheckedBlocks, DamagedBlock, write_block_sums


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr("memory.blocks.BLOCK_BYTES", 10)
    path = tmp_path / "file"
    path.write_bytes(bytes(range(25)))
    return path


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_every_block_has_its_hash(file):
    sums = write_block_sums(file)
    assert sums == [hashlib.sha256(bytes(range(a, b))).hexdigest() for a, b in ((0, 10), (10, 20), (20, 25))]
    CheckedBlocks(file, 25, sums).check()
    file.write_bytes(b"")
    assert write_block_sums(file) == []
    CheckedBlocks(file, 0, []).check()


def test_only_blocks_that_are_asked_for_are_checked_and_only_once(file):
    blocks = CheckedBlocks(file, 25, write_block_sums(file))
    flip(file, 12)
    blocks.check(0, 10)
    blocks.check(20, 25)
    for start, stop in ((19, 20), (0, 11), (0, 25)):
        with pytest.raises(DamagedBlock, match="in block 1"):
            blocks.check(start, stop)
    flip(file, 0)
    blocks.check(0, 10)
    flip(file, 12)
    blocks.check()


def test_a_file_of_another_size_is_refused_before_it_is_read(file):
    sums = write_block_sums(file)
    with pytest.raises(DamagedBlock, match="another size"):
        CheckedBlocks(file, 24, sums)
    with pytest.raises(DamagedBlock, match="another size"):
        CheckedBlocks(file, 25, sums[:2])
    with pytest.raises(OSError, match="No such file"):
        CheckedBlocks(file.with_name("other"), 25, sums)
