"""Tables of features at an address on an object store; `test_features.py` has those in folders."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from memory import ObjectStoreError
from memory.remote.address import Address
from memory.remote.objects import Objects
from recognizer.features import FeatureStore
from recognizer.features.places import TableAddress, TableFolder
from recognizer.features.search import StoredFolder
from recognizer.features.store import stored_encoders
from recognizer.features.stored_image import StoredFailure
from recognizer.features.table import FeatureTable, count_images
from recognizer.images import ImageLimits
from tests.memory.fake_encoder import FakeEncoder
from tests.objects_server import KEY_ID, SECRET

DIM = 16


def failures(name, count=3):
    """Rows that take no encoder."""
    return [StoredFailure(f"{name}{number}".rjust(64, "0"), "E_DECODE", "broken") for number in range(count)]


def hashes(rows):
    return [row.sha256 for row in rows]


@pytest.fixture
def address(object_store):
    return Address.parse(object_store.new_address())


@pytest.fixture
def open_table(address):
    """Open the table at the address as one more machine; returns it with the list of its warnings."""

    def open_one():
        warnings = []
        place = TableAddress(address)
        return FeatureTable(place, DIM, writable=True, with_failures=True, warn=warnings.append), warnings

    return open_one


def test_what_one_machine_stores_another_finds(open_table):
    table, warnings = open_table()
    assert (len(table), warnings) == (0, [])
    for name in ("a", "b"):
        table.add(failures(name))
        table.flush()
        assert set(table.read(hashes(failures("a")))) == set(hashes(failures("a")))
    other, said = open_table()
    assert len(other) == 6
    assert [row.sha256 for row in other.rows(hashes(failures("b")))] == hashes(failures("b"))
    assert warnings == said == []


def test_several_machines_store_at_a_time(address, open_table):
    opened = [open_table() for _ in range(3)]  # none of them sees a table yet
    with ThreadPoolExecutor(3) as pool:
        for number, (table, _) in enumerate(opened):
            table.add(failures(f"machine {number} "))
        list(pool.map(lambda one: one[0].flush(), opened))
    assert [warnings for _, warnings in opened] == [[], [], []]
    assert len(open_table()[0]) == count_images(TableAddress(address)) == 9


def test_a_table_is_made_although_the_machine_that_began_it_died(address, open_table, monkeypatch):
    monkeypatch.setattr("recognizer.features.places.WAIT_S", 0.4)
    Objects(address).put("images.begun", b"")
    table, warnings = open_table()
    table.add(failures("a"))
    table.flush()
    assert warnings == []
    assert count_images(TableAddress(address)) == 3


def test_a_damaged_table_is_left_as_it_is_and_said_once(address, open_table):
    table, _ = open_table()
    table.add(failures("a"))
    table.flush()
    objects = Objects(address)
    for key in objects.list_keys():
        if "/data/" in key:
            objects.put(key, b"damaged")
    before = objects.list_keys()
    other, warnings = open_table()
    assert not other.writable
    assert other.read(hashes(failures("a"))) == {}
    other.add(failures("b"))
    other.flush()
    assert objects.list_keys() == before
    assert len(warnings) == 1
    assert f"not stored: {address}: reading features failed: what is stored there is damaged" in warnings[0]


def test_a_store_that_dies_in_the_middle_is_said_once(open_table, monkeypatch):
    table, warnings = open_table()
    table.add(failures("a"))
    table.flush()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr("recognizer.features.places.ATTEMPTS", 1)  # Lance waits seconds between them
    table, warnings = open_table()
    assert not table.writable
    table.add(failures("b"))
    table.flush()
    assert len(warnings) == 1
    assert "cannot be reached" in warnings[0]
    assert not any(secret in warnings[0] for secret in (KEY_ID, SECRET))


def test_a_store_of_features_at_an_address(address, object_store, monkeypatch, tmp_path):
    card, warnings = FakeEncoder().card, []
    for machine in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        with FeatureStore(str(address), card, ImageLimits(), warn=warnings.append) as store:
            assert store.writable
            assert store.folder == str(address)
            store.table.add(failures(machine))
    (encoder,) = stored_encoders(str(address))
    assert (encoder.card, count_images(encoder.place)) == (card, 6)
    assert encoder.place.name == str(encoder.place).removeprefix(f"{address}/")
    folder = StoredFolder(str(address), warn=warnings.append)
    assert folder.encoder == encoder or folder.encoder.card == card
    assert folder.copies(lambda *_: pytest.fail("no file of this machine is stored")) == []
    assert warnings == []
    key = f"{encoder.place.name}/encoder.json"
    Objects(address).put(key, b"damaged")
    assert stored_encoders(str(address)) == []
    FeatureStore(str(address), card, ImageLimits(), warn=warnings.append).close()
    assert [one.card for one in stored_encoders(str(address))] == [card]


def test_encoders_at_a_store_that_does_not_answer(object_store):
    with pytest.raises(ObjectStoreError, match="has no bucket"):
        stored_encoders("s3://no-such-bucket/features")
    warnings = []
    store = FeatureStore("s3://no-such-bucket/features", FakeEncoder().card, ImageLimits(), warn=warnings.append)
    store.close()
    assert not store.writable
    assert len(warnings) == 1


def test_a_folder_shows_its_path_and_its_name(tmp_path):
    place = TableFolder(tmp_path / "key")
    assert (str(place), place.name) == (str(tmp_path / "key"), "key")
    assert place.open() is None
    assert count_images(place) == 0
