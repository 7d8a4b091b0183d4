import contextlib

import pytest

from recognizer.results import encode_row
from recognizer.results.journal import Journal
from recognizer.results.retry import JournalPatch

COUNT, SIZE = 11, 4
KEYS = [f"{number:03d}.jpg" for number in range(COUNT)]


@pytest.fixture
def journal(tmp_path, make_row):
    """A finished journal of three batches, of which the first and the last have a row with an error."""
    rows = [make_row(number, bad={2, 9}) for number in range(COUNT)]
    with contextlib.closing(Journal(tmp_path / "out.jsonl", keys=KEYS, batch_size=SIZE)) as journal:
        for start in range(0, COUNT, SIZE):
            journal.append(rows[start : start + SIZE])
    return journal


def test_a_retry_replaces_whole_batches_in_one_step(tmp_path, journal, make_row):
    before = journal.path.read_bytes()
    healed = [make_row(number, bad={9}) for number in range(COUNT)]
    patch = JournalPatch(journal.path, keys=KEYS, batch_size=SIZE, spans=journal.spans)
    assert patch.pending == [0, 2]
    with pytest.raises(ValueError, match="out of turn"):
        patch.replace(2, healed[8:])
    patch.replace(0, healed[:4])
    with pytest.raises(ValueError, match="1 batches are still"):
        patch.finish()
    assert journal.path.read_bytes() == before
    patch.replace(2, healed[8:])
    assert journal.path.read_bytes() == before
    patch.finish()
    kept = before[journal.spans[1].start : journal.spans[1].end]
    expected = b"".join(map(encode_row, healed[:4])) + kept + b"".join(map(encode_row, healed[8:]))
    assert journal.path.read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
