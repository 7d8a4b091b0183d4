import sqlite3

import pytest

from tests.campaign.disk import in_child
from training.annotation.store import Store, key_of
from training.errors import DataError


def test_values_are_found_again(tmp_path):
    path = tmp_path / "new" / "s.sqlite"
    with Store(path) as store:
        store.put({b"a": ["é", None], b"b": {"x": 1.5}})
        store.put({b"b": 0})
    with Store(path) as store:
        assert (store.get(b"a"), store.get(b"b"), store.get(b"c")) == (["é", None], 0, None)
        assert b"b" in store
        assert b"c" not in store


def test_a_stored_null_is_a_value(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.put({b"a": None})
        assert b"a" in store


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(TypeError):
            store.put({b"a": 1, b"b": object()})
        with pytest.raises(DataError, match="cannot be stored"):
            store.put({b"a": 1, None: 2})
        assert b"a" not in store


def test_another_process_is_refused_while_one_writes(tmp_path):
    with Store(tmp_path / "s.sqlite"):
        outcome = in_child(lambda: Store(tmp_path / "s.sqlite"))
    assert "another process annotates" in outcome.value
    with Store(tmp_path / "s.sqlite"):
        pass


@pytest.mark.parametrize("content", [b"no database at all, but a text that is long enough to be one" * 9, None])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "s.sqlite"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE other (x)")
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"s\.sqlite"):
        Store(path)


def test_keys_depend_on_all_parts_and_not_on_the_order_of_fields():
    assert key_of("a", {"x": 1, "y": 2}) == key_of("a", {"y": 2, "x": 1})
    assert len({key_of("a", "b"), key_of("ab"), key_of("a", ["b"]), key_of("b", "a")}) == 4
