"""Which rows of earlier runs are carried over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.results.carry import carry_over
from recognizer.results.journal import JournalContent, JournalRow
from recognizer.results.ledger import ImageStamp, LedgerEntry

GONE = ImageStamp(-1, 0)


def stamp(content):
    return GONE if content is None else ImageStamp(len(content), 1, content)


def journal(*rows):
    """A journal of rows of 10 bytes each: (key, content of the image, error)."""
    content = {
        key: JournalRow(10 * place, 10 * place + 10, LedgerEntry(key, b"", error, stamp(image)))
        for place, (key, image, error) in enumerate(rows)
    }
    return JournalContent(content, 10 * len(rows), 0)


def carried(files, rows, *, retry_errors=False, keep_missing=False):
    keys, said = list(files), []
    result = carry_over(
        keys,
        journal(*rows),
        retry_errors=retry_errors,
        keep_missing=keep_missing,
        current_stamp=lambda number, _before: stamp(files[keys[number]]),
        warn=said.append,
    )
    return list(result.todo), list(result.missing), result.in_order, said


def test_rows_of_the_same_images_stay_and_the_rest_is_done():
    rows = [("a", "A", None), ("b", "B", "E_DECODE")]
    assert carried({"a": "A", "b": "B", "c": "C"}, rows) == ([2], [], True, [])
    assert carried({"a": "A", "b": "B", "c": "C"}, rows, retry_errors=True)[0] == [1, 2]
    todo, _, in_order, said = carried({"a": "other", "b": "B"}, rows)
    assert (todo, in_order) == ([0], False)
    assert said == ["1 image (a) changed since the earlier run; done again"]


def test_rows_of_images_that_are_gone_are_dropped_or_kept_at_the_end():
    rows = [("z", "Z", None), ("a", "A", None), ("y", "Y", None)]
    todo, missing, in_order, said = carried({"a": "A"}, rows)
    assert (todo, missing, in_order) == ([], [], False)
    assert said == ["no longer among the images: 2 images (z, y); earlier rows are dropped (--keep-missing keeps them)"]
    assert carried({"a": "A"}, rows, keep_missing=True)[:3] == ([], ["y", "z"], False)
    assert carried({"a": "A", "y": "Y"}, [rows[1], rows[2], rows[0]], keep_missing=True)[:3] == ([], ["z"], True)


@pytest.mark.parametrize(("keep_missing", "todo"), [(False, [0]), (True, [])])
def test_a_listed_image_without_its_file_is_done_again_unless_rows_are_kept(keep_missing, todo):
    assert carried({"a": None}, [("a", "A", None)], keep_missing=keep_missing)[0] == todo


def test_an_image_without_a_stamp_is_taken_to_be_the_same():
    content = JournalContent({"a": JournalRow(0, 10, LedgerEntry("a", b"", None, None))}, 10, 0)
    options = {"retry_errors": False, "keep_missing": False, "warn": pytest.fail}
    assert list(carry_over(["a"], content, current_stamp=lambda *_: GONE, **options).todo) == []


names = st.lists(st.sampled_from("abcdef"), unique=True)


@given(names, names, st.booleans())
def test_every_image_is_carried_over_or_to_be_done_and_order_is_judged_by_places(listed, written, keep_missing):
    rows = [(key, key, None) for key in written]
    todo, missing, in_order, _ = carried({key: key for key in listed}, rows, keep_missing=keep_missing)
    kept = [key for key in listed if key in written]
    assert [listed[number] for number in todo] == [key for key in listed if key not in written]
    assert missing == (sorted(set(written) - set(listed)) if keep_missing else [])
    wanted = [*listed, *missing]
    appended = [*written, *(listed[number] for number in todo)]
    assert in_order == (appended == wanted and (kept + missing == written))
