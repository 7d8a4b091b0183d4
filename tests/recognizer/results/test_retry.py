import contextlib

import pytest

from recognizer.results import encode_row
from recognizer.results.journal import Journal
from recognizer.results.retry import JournalPatch

COUNT, SIZE = 11, 4
KEYS = [f"{number:03d}.jpg" for number in range(COUNT)]


def open_journal(path):
    return Journal(path, ledger_path=path.with_name("ledger"), keys=KEYS, batch_size=SIZE)


@pytest.fixture
def journal(tmp_path, make_row):
    """A finished journal of three batches, of which the first and the last have a row with an error."""
    rows = [make_row(number, bad={2, 9}) for number in range(COUNT)]
    with contextlib.closing(open_journal(tmp_path / "out.jsonl")) as journal:
        for start in range(0, COUNT, SIZE):
            journal.append(rows[start : start + SIZE])
    return journal


def test_a_retry_replaces_whole_batches_in_one_step(tmp_path, journal, make_row):
    before = journal.path.read_bytes()
    healed = [make_row(number, bad={9}) for number in range(COUNT)]
    ledger = journal.ledger.path.read_bytes()
    patch = JournalPatch(
        journal.path, ledger_path=journal.ledger.path, keys=KEYS, batch_size=SIZE, spans=journal.spans, pending=[0, 2]
    )
    with pytest.raises(ValueError, match="out of turn"):
        patch.replace(2, healed[8:])
    patch.replace(0, healed[:4])
    with pytest.raises(ValueError, match="1 batches are still"):
        patch.finish()
    assert journal.path.read_bytes() == before
    patch.replace(2, healed[8:])
    assert journal.path.read_bytes() == before
    assert journal.ledger.path.read_bytes() == ledger
    patch.finish()
    kept = before[journal.spans[1].start : journal.spans[1].end]
    expected = b"".join(map(encode_row, healed[:4])) + kept + b"".join(map(encode_row, healed[8:]))
    assert journal.path.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger", "out.jsonl"]
    # A power loss may leave the old or the new rows: the ledger vouches for both, until it is opened again.
    both = journal.ledger.path.read_bytes()
    for rows, errors in ((before, 2), (expected, 1)):
        journal.path.write_bytes(rows)
        journal.ledger.path.write_bytes(both)
        with contextlib.closing(open_journal(journal.path)) as opened:
            assert (opened.damaged, sum(span.errors.total() for span in opened.spans)) == ([], errors)
        assert journal.path.read_bytes() == rows
        assert journal.ledger.path.read_bytes().count(b"\n") == 3
