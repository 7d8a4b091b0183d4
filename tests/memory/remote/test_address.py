import os
import stat
from pathlib import Path

import pytest

from memory import ObjectStoreError
from memory.remote.address import Address, cache_folder, is_address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://bucket/a/b", ("s3", "bucket", "a/b")),
        ("s3://bucket/a/b/", ("s3", "bucket", "a/b")),
        ("S3://bucket", ("s3", "bucket", "")),
        ("gs://my_bucket.example/Größe 1", ("gs", "my_bucket.example", "Größe 1")),
        ("az://container/birds", ("az", "container", "birds")),
    ],
)
def test_addresses_are_read_and_shown(text, parts):
    address = Address.parse(text)
    assert (address.scheme, address.bucket, address.prefix) == parts
    assert Address.parse(str(address)) == address
    assert address.below("x").prefix == f"{parts[2]}/x".lstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///birds",
        "s3://b/a//b",
        "s3://bucket/../other",
        "s3://bucket/./a",
        "s3://bucket/a%2e%2e/b",
        "s3://bucket/a#b",
        "s3://bucket/a\\b",
        "s3://bucket/a\x1b[0m",
        "s3://bucket/\u202eabc",
        "s3://bucket/" + "a" * 901,
        "s3://-bucket/a",
        "s3://bucket:80/a",
        "http://host/birds",
        "file:///birds",
    ],
)
def test_other_forms_are_refused_in_one_printable_line(text):
    with pytest.raises(ObjectStoreError) as refusal:
        Address.parse(text)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("text", ["s3://KEYID:hush@bucket/a", "az://c/a?sv=1&sig=hush"])
def test_a_password_in_an_address_is_refused_and_not_repeated(text):
    with pytest.raises(ObjectStoreError, match="in the environment") as refusal:
        Address.parse(text)
    assert "hush" not in str(refusal.value)


def test_paths_are_no_addresses(tmp_path):
    assert is_address("s3://bucket/a")
    assert is_address("http://a/b")
    assert not any(is_address(path) for path in ("birds.memory", "s3", "C:\\a", tmp_path, "./s3://a"))


@pytest.mark.parametrize("slip", ["s3:/bucket/a", "GS:/bucket", Path("az://bucket/a")])
def test_an_address_with_one_slash_is_no_folder(slip):
    scheme, _, rest = str(slip).partition(":/")
    with pytest.raises(ObjectStoreError, match=f"write {scheme}://{rest}"):
        is_address(slip)


def test_the_server_is_shown_without_its_password(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hush@minio.example:9000/path")
    assert Address.parse("s3://bucket/a").server == "minio.example:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://host:notaport")
    assert Address.parse("s3://bucket/a").server == ""


def test_the_cache_is_for_its_user_alone_and_each_server_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    address = Address.parse("s3://bucket/a.b/c")
    folder = cache_folder("memories", address)
    assert folder.parent == tmp_path / "recognizer" / "memories"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert stat.S_IMODE(cache_folder("memories", address).stat().st_mode) == 0o700
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://other:1")
    assert cache_folder("memories", address) != folder
    assert cache_folder("memories", Address.parse("s3://bucket/a-b/c")) != cache_folder("memories", address)


def test_a_cache_that_is_a_link_or_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    address = Address.parse("s3://bucket/a")
    folder = cache_folder("memories", address)
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(ObjectStoreError, match="is a link, or not yours"):
        cache_folder("memories", address)
    folder.unlink()
    folder.write_text("")
    with pytest.raises(ObjectStoreError, match="cannot be made"):
        cache_folder("memories", address)
    assert os.listdir(elsewhere) == []
