from hypothesis import given
from hypothesis import strategies as st

from recognizer.results import RunCounts
from recognizer.results.sink import batch_at, batch_count, batch_keys


@given(st.integers(0, 50), st.integers(1, 12))
def test_the_grid_covers_every_image_once_in_order(images, batch_size):
    keys = [str(number) for number in range(images)]
    batches = [batch_at(number, images, batch_size) for number in range(batch_count(images, batch_size))]
    assert [index for batch in batches for index in range(batch.start, batch.stop)] == list(range(images))
    assert all(batch.stop - batch.start == batch_size for batch in batches[:-1])
    assert all(list(batch_keys(keys, b.number, batch_size)) == keys[b.start : b.stop] for b in batches)


def test_failed_images_are_counted_over_all_codes():
    assert RunCounts(5, {"E_EMPTY": 2, "E_BOMB": 1}).failed == 3
