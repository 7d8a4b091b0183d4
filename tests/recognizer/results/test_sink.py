from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.results import ErrorRow, ResultsIncomplete, RunCounts, todo_batches
from recognizer.results.sink import Worklist, require_complete


def error(key, code="E_EMPTY"):
    return ErrorRow(path=key, code=code, reason="")


def test_rows_are_taken_in_the_order_of_the_images_to_do():
    keys = ["a", "b", "c", "d", "e"]
    work = Worklist(keys, [1, 3, 4], [None, "E_BOMB"])
    assert (work.left, work.counts) == (3, RunCounts(1, {"E_BOMB": 1}))
    for wrong in (["a"], ["b", "c"], ["b", "d", "e", "e"], ["d"]):
        with pytest.raises(ValueError, match=f"{len(wrong)} rows out of turn"):
            work.require_next([error(key) for key in wrong])
    for batch in (["b", "d"], [], ["e"]):
        rows = [error(key) for key in batch]
        work.require_next(rows)
        work.tick_off(rows)
    assert (work.left, work.counts) == (0, RunCounts(1, {"E_BOMB": 1, "E_EMPTY": 3}))


@given(st.lists(st.integers(0, 50)), st.integers(1, 12))
def test_batches_hold_every_image_to_do_once_in_order(todo, batch_size):
    batches = list(todo_batches(SimpleNamespace(todo=todo), batch_size))
    assert [number for batch in batches for number in batch] == todo
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_failed_images_are_counted_over_all_codes():
    counts = RunCounts(5, {"E_EMPTY": 2, "E_BOMB": 1})
    assert (counts.failed, counts.total, counts.failed_share) == (3, 8, 0.375)
    assert RunCounts(0, {}).failed_share == 0


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.integers(0, 6))
def test_a_row_too_few_or_too_many_is_an_error(ok, failed, images, lines):
    counts = RunCounts(ok, {"E_EMPTY": failed})
    if ok + failed == images == lines:
        require_complete(images, counts, lines=lines)
        require_complete(images, counts)
    else:
        with pytest.raises(ResultsIncomplete, match=f"{images} images went in"):
            require_complete(images, counts, lines=lines)
