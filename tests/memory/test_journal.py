import numpy as np
import pytest

from memory import Category, Memory
from memory.journal import JOURNAL_NAME, VectorJournal
from memory.texts import text_keys
from tests.memory.building import TEMPLATES
from tests.memory.fake_encoder import FakeEncoder

CATEGORIES = [Category(f"thing {i}") for i in range(20)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr("memory.encode.CHUNK_TEXTS", 8)


def build(directory, encoder):
    return Memory.build(CATEGORIES, directory, encoder=encoder, templates=TEMPLATES)


def interrupted(directory, chunks):
    with pytest.raises(InterruptedError):
        build(directory, FakeEncoder(fail_after_chunks=chunks))


def test_a_resumed_build_encodes_exactly_the_chunks_that_were_left(directory):
    whole = FakeEncoder()
    build(directory.with_name("whole"), whole)
    interrupted(directory, 2)
    resumed = FakeEncoder()
    report = build(directory, resumed).report
    assert resumed.calls == whole.calls[2:]
    assert (report.texts_encoded, report.texts_reused) == (24, 16)
    one, other = Memory.open(directory).vectors, Memory.open(directory.with_name("whole")).vectors
    np.testing.assert_array_equal(one.names, other.names)
    assert not (directory / JOURNAL_NAME).exists()


@pytest.mark.parametrize("damage", ["torn", "zero tail", "flipped last", "garbage tail"])
def test_whole_chunks_survive_what_happens_to_the_last_one(directory, damage):
    whole = FakeEncoder()
    build(directory.with_name("whole"), whole)
    interrupted(directory, 3)
    path = directory / JOURNAL_NAME
    data = bytearray(path.read_bytes())
    if damage == "torn":
        data = data[:-5]
    elif damage == "zero tail":
        data += bytes(1000)
    elif damage == "garbage tail":
        data += b"\xff" * 50
    else:
        data[-3] ^= 1
    path.write_bytes(data)
    lost = damage in ("torn", "flipped last")
    interrupted_again = FakeEncoder(fail_after_chunks=1)
    with pytest.raises(InterruptedError):
        build(directory, interrupted_again)
    resumed = FakeEncoder()
    build(directory, resumed)
    assert interrupted_again.calls + resumed.calls == whole.calls[2 if lost else 3 :]


def test_a_flipped_chunk_in_the_middle_costs_only_itself(directory):
    whole = FakeEncoder()
    build(directory.with_name("whole"), whole)
    interrupted(directory, 3)
    path = directory / JOURNAL_NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    resumed = FakeEncoder()
    build(directory, resumed)
    assert resumed.calls == [whole.calls[1], *whole.calls[3:]]


def test_vectors_of_another_dimension_are_ignored(tmp_path, encoder):
    keys = text_keys([("a",), ("b",)], encoder.card)
    VectorJournal(tmp_path, 3).append(keys, np.eye(2, 3, dtype=np.float32))
    assert not VectorJournal(tmp_path, 4).has(keys).any()
    journal = VectorJournal(tmp_path, 3)
    np.testing.assert_array_equal(journal.get(keys[::-1]), np.eye(2, 3)[::-1])
    with pytest.raises(KeyError, match="1 of 1"):
        journal.get(text_keys([("c",)], encoder.card))


def test_an_append_cuts_off_what_follows_the_last_valid_chunk(tmp_path, encoder):
    keys = text_keys([("a",), ("b",)], encoder.card)
    VectorJournal(tmp_path, 3).append(keys, np.eye(2, 3, dtype=np.float32))
    path = tmp_path / JOURNAL_NAME
    valid = path.read_bytes()
    path.write_bytes(valid + bytes(1000))
    VectorJournal(tmp_path, 3).append(keys, np.eye(2, 3, dtype=np.float32))
    assert path.read_bytes() == 2 * valid


def test_vectors_are_as_wide_as_the_mean_of_several_texts_needs_them(directory):
    """Rounding vectors before their mean is taken would change it."""
    sizes = {}
    for templates in (("{}",), TEMPLATES):
        with pytest.raises(InterruptedError):
            Memory.build(CATEGORIES, directory, encoder=FakeEncoder(fail_after_chunks=1), templates=templates)
        sizes[len(templates)] = (directory / JOURNAL_NAME).stat().st_size
    assert sizes == {1: 24 + 8 * (16 + 2 * 16), 2: 24 + 8 * (16 + 4 * 16)}


def test_fp16_and_float32_vectors_do_not_take_the_place_of_each_other(tmp_path, encoder):
    keys = text_keys([("a",), ("b",)], encoder.card)
    halves = VectorJournal(tmp_path, 3, np.float16)
    halves.append(keys[:1], np.full((1, 3), 1 / 3, np.float32))
    halves.append(keys[1:], np.full((1, 3), 0.5, np.float32))
    again = VectorJournal(tmp_path, 3, np.float16)
    np.testing.assert_array_equal(again.get(keys), np.array([[1 / 3] * 3, [0.5] * 3]).astype(np.float16))
    assert not VectorJournal(tmp_path, 3).has(keys).any()
