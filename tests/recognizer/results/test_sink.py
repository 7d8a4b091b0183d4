import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.results import ResultsIncomplete, RunCounts
from recognizer.results.sink import batch_at, batch_count, batch_keys, require_complete


@given(st.integers(0, 50), st.integers(1, 12))
def test_the_grid_covers_every_image_once_in_order(images, batch_size):
    keys = [str(number) for number in range(images)]
    batches = [batch_at(number, images, batch_size) for number in range(batch_count(images, batch_size))]
    assert [index for batch in batches for index in range(batch.start, batch.stop)] == list(range(images))
    assert all(batch.stop - batch.start == batch_size for batch in batches[:-1])
    assert all(list(batch_keys(keys, b.number, batch_size)) == keys[b.start : b.stop] for b in batches)


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
