"""Objects of a store, in a store of obstore's own that lives in memory."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from recognizer.images import ImageError, ImageLimits, list_images
from recognizer.images.file_bytes import read_file_bytes
from recognizer.images.remote import fetch, head, is_remote, local_copy
from recognizer.images.workers import WorkerPool
from recognizer.results import restamp_file, stamp_file


@pytest.fixture
def store(monkeypatch, request):
    """A store in memory behind every address; returns it and the address of a bucket that no other test has."""
    from obstore.store import MemoryStore

    stores = {}
    monkeypatch.setattr("obstore.store.from_url", lambda bucket, **_: stores.setdefault(bucket, MemoryStore()))
    bucket = f"s3://{request.node.name.replace('_', '-')}"
    stores[bucket] = MemoryStore()
    return stores[bucket], bucket.encode()


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        (b"s3://bucket/a.jpg", True),
        (b"https://host/a.jpg", True),
        (b"s3://bucket", False),
        (b"s3:/bucket/a.jpg", False),
        (b"/photos/a.jpg", False),
        (b"a//b.jpg", False),
    ],
)
def test_an_address_is_told_from_a_path(path, remote):
    assert is_remote(path) == remote


def test_an_object_is_read_as_a_file_would_be(store, photos):
    inside, bucket = store
    data = (photos / "cat.jpg").read_bytes()
    inside.put("some folder/cät.jpg", data)
    address = bucket + "/some folder/cät.jpg".encode()
    assert fetch(address, max_bytes=len(data)) == data == read_file_bytes(address, max_bytes=len(data))
    with local_copy(address, max_bytes=len(data)) as copy, open(copy, "rb") as stream:
        assert stream.read() == data
    with pytest.raises(FileNotFoundError), open(copy, "rb"):
        pass
    pool = WorkerPool(1)
    here, there = (pool.decode(path, limits=ImageLimits()) for path in (photos / "cat.jpg", address))
    assert here.image.tobytes() == there.image.tobytes()
    assert here.sha256 == there.sha256


def test_an_object_that_cannot_be_used_is_an_error_of_its_image(store):
    inside, bucket = store
    inside.put("empty.jpg", b"")
    inside.put("large.jpg", b"12345")
    for name, code in (("missing.jpg", "E_NOT_FOUND"), ("empty.jpg", "E_EMPTY"), ("large.jpg", "E_TOO_LARGE")):
        with pytest.raises(ImageError) as raised:
            fetch(bucket + b"/" + name.encode(), max_bytes=4)
        assert raised.value.code == code
    with pytest.raises(ImageError, match=r"addresses that begin with ftp:// are not read; use s3://, gs://, az://"):
        fetch(b"ftp://host/a.jpg", max_bytes=4)
    with pytest.raises(ImageError) as raised:
        fetch(bucket + b"/\xff.jpg", max_bytes=4)
    assert raised.value.code == "E_READ"


def test_a_stamp_sees_that_an_object_changed(store):
    inside, bucket = store
    inside.put("a.jpg", b"1234")
    before = stamp_file(bucket + b"/a.jpg")
    assert before.size == 4
    assert (before.size, before.mtime_ns) == head(bucket + b"/a.jpg")
    assert restamp_file(bucket + b"/a.jpg", before) == before
    inside.put("a.jpg", b"5678")
    assert restamp_file(bucket + b"/a.jpg", before) != before
    assert head(bucket + b"/b.jpg") is None
    assert not stamp_file(bucket + b"/b.jpg").exists


def test_a_dead_store_costs_an_image_some_attempts_and_is_named(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    with pytest.raises(ImageError, match=r"s3://dead-store cannot be read: .*error sending request") as raised:
        fetch(b"s3://dead-store/a.jpg", max_bytes=4)
    assert raised.value.code == "E_READ"


def test_a_list_may_be_parquet_and_name_addresses_beside_files(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "list.txt").write_text("sub/a.jpg\ns3://bucket/b.jpg\nsub/a.jpg\n")
    pq.write_table(
        pa.table({"path": ["sub/a.jpg", None, "s3://bucket/b.jpg"], "other": [1, 2, 3]}), tmp_path / "l.parquet"
    )
    for name in ("list.txt", "l.parquet"):
        listing = list_images([tmp_path / name])
        assert list(listing.keys) == ["sub/a.jpg", "s3://bucket/b.jpg"]
        assert [item.path for item in listing] == [bytes(tmp_path / "sub/a.jpg"), b"s3://bucket/b.jpg"]
        assert list(listing.with_absolute_keys().keys) == [str(tmp_path / "sub/a.jpg"), "s3://bucket/b.jpg"]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "list.txt").write_text("c.jpg\ns3://bucket/b.jpg\n")
    both = list_images([tmp_path / "list.txt", tmp_path / "two" / "list.txt"])
    assert list(both.keys) == ["sub/a.jpg", "s3://bucket/b.jpg", "two/c.jpg"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"file": ["a"]}, "has no column path"), ({"path": [None]}, "names no image"), ({"path": [1]}, "cannot be read")],
)
def test_a_parquet_list_that_names_no_image_is_refused(tmp_path, columns, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recognizer.images import ImageInputError

    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    with pytest.raises(ImageInputError, match=message):
        list_images([tmp_path / "list.parquet"])


def test_a_damaged_parquet_list_is_refused(tmp_path):
    from recognizer.images import ImageInputError

    (tmp_path / "list.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ImageInputError, match=r"list\.parquet: the list of images cannot be read"):
        list_images([tmp_path / "list.parquet"])


@pytest.mark.slow
def test_objects_are_read_over_the_protocol_of_s3(photos, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        for name, value in {
            "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        for _ in range(300):
            try:
                urllib.request.urlopen(
                    urllib.request.Request(f"http://127.0.0.1:{port}/pictures-of-s3", method="PUT")
                ).close()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        from obstore.store import from_url

        data = (photos / "cat.jpg").read_bytes()
        from_url("s3://pictures-of-s3").put("a folder/cat.jpg", data)
        address = b"s3://pictures-of-s3/a folder/cat.jpg"
        assert fetch(address, max_bytes=len(data)) == data
        assert stamp_file(address).size == len(data)
        assert WorkerPool(1).decode(address, limits=ImageLimits()).format == "JPEG"
        with pytest.raises(ImageError, match="s3://pictures-of-s3 has no such object"):
            fetch(address + b"x", max_bytes=len(data))
    finally:
        server.kill()
        server.wait()
