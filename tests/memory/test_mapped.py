import numpy as np
import pytest

from memory import MemoryDamaged
from memory.mapped import BlockRecord, BlockWriter, DamagedBlock, MappedBlocks, block_record


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("memory.mapped.BLOCK_BYTES", 8)


def written(folder, record, *parts):
    writer = BlockWriter(folder, record)
    for part in parts:
        writer.write(memoryview(part))
    return writer.finish()


def test_appending_gives_the_sums_of_writing_at_once(tmp_path):
    data = bytes(range(30))
    whole = written(tmp_path, BlockRecord("whole", 0, ()), data)
    record = BlockRecord("parts", 0, ())
    for start, stop in ((0, 3), (3, 8), (8, 8), (8, 25), (25, 30)):
        record = written(tmp_path, record, data[start:stop])
    assert (record.size, record.sums) == (whole.size, whole.sums)
    assert (tmp_path / "parts").read_bytes() == data
    assert block_record(tmp_path, "parts") == record
    assert BlockRecord.from_json({"file": "parts", "size": 30, "sums": list(record.sums)}) == record


def test_only_blocks_that_are_read_are_checked_and_each_once(tmp_path):
    record = written(tmp_path, BlockRecord("a", 0, ()), bytes(30))
    path = tmp_path / "a"
    path.write_bytes(bytes(8) + b"x" + bytes(21))
    blocks = MappedBlocks(tmp_path, record)
    blocks.check(0, 8)
    blocks.check(16, 30)
    blocks.check_blocks(np.array([3, 0, 3]))
    with pytest.raises(MemoryDamaged, match=r"block 1 of .*does not hold"):
        blocks.check(7, 9)
    with pytest.raises(MemoryDamaged):
        MappedBlocks(tmp_path, record).check()
    path.write_bytes(bytes(30))
    blocks.check()
    path.write_bytes(b"y" * 30)
    blocks.check()  # all were checked


def test_many_blocks_are_checked_by_several_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("memory.mapped.MANY_BLOCKS", 4)
    monkeypatch.setattr("memory.mapped.HASH_THREADS", 3)
    data = bytes(range(100))
    record = written(tmp_path, BlockRecord("a", 0, ()), data)
    for place in range(0, 100, 9):
        (tmp_path / "a").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        blocks = MappedBlocks(tmp_path, record)
        with pytest.raises(DamagedBlock, match=f"block {place // 8} "):
            blocks.check()
        (tmp_path / "a").write_bytes(data)
        blocks.check()


def test_what_is_behind_the_recorded_size_is_cut_off_and_a_shorter_file_refused(tmp_path):
    record = written(tmp_path, BlockRecord("a", 0, ()), b"abc")
    with (tmp_path / "a").open("ab") as file:
        file.write(b"left by a kill")
    MappedBlocks(tmp_path, record).check()
    record = written(tmp_path, record, b"def")
    assert (tmp_path / "a").read_bytes() == b"abcdef"
    (tmp_path / "a").write_bytes(b"abcde")
    with pytest.raises(ValueError, match="too short"):
        MappedBlocks(tmp_path, record)


def test_a_file_that_is_linked_from_elsewhere_is_copied_before_it_grows(tmp_path):
    record = written(tmp_path, BlockRecord("a", 0, ()), b"abc")
    (tmp_path / "other").hardlink_to(tmp_path / "a")
    written(tmp_path, record, b"def")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "other").read_bytes()) == (b"abcdef", b"abc")


def test_a_write_that_is_abandoned_leaves_the_file_as_it_was(tmp_path):
    record = written(tmp_path, BlockRecord("a", 0, ()), b"abc")
    for name in (record, BlockRecord("new", 0, ())):
        writer = BlockWriter(tmp_path, name)
        writer.write(memoryview(b"more"))
        writer.abandon()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"abc")]


@pytest.mark.parametrize("change", [{"sums": [1]}, {"size": "x"}, {"file": "../a"}])
def test_a_record_of_another_shape_is_refused(change):
    with pytest.raises(ValueError, match=r"another number|invalid literal"):
        BlockRecord.from_json({"file": "a", "size": 9, "sums": [1, 2]} | change)
