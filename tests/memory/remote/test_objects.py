import re
import socket
import sys
import threading
from contextlib import contextmanager

import pytest

from memory import ObjectStoreError
from memory.remote import objects as objects_module
from memory.remote.address import Address
from memory.remote.objects import Conflict, Content, Objects, Unchanged, store_failure
from tests.objects_server import KEY_ID, SECRET, environment


@pytest.fixture
def objects(object_store):
    return Objects(Address.parse(object_store.new_address()))


@contextmanager
def answering(body, status):
    """A server that answers every request with one status and body; None: it never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = threading.Event()
        held = []

        def serve():
            server.settimeout(0.05)
            while not ends.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                if body is not None:
                    connection.recv(65536)
                    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    connection.sendall(head.encode() + body)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ends.set()
            thread.join()
            for connection in held:
                connection.close()


def error_at(url, monkeypatch, tmp_path, **variables):
    """The message of reading an object there."""
    for name, value in (environment(url, tmp_path) | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ObjectStoreError) as failure:
        Objects(Address.parse("s3://bucket/birds")).get("MEMORY.json", most_bytes=9)
    message = str(failure.value)
    assert message.isprintable()
    assert message.startswith("s3://bucket/birds: reading MEMORY.json failed: ")
    assert not any(secret in message for secret in (KEY_ID, SECRET, "StringToSign", "hush"))
    assert failure.value.__cause__ is None
    return message


def test_objects_are_read_written_and_replaced_on_condition(objects):
    assert objects.get("a", most_bytes=9) is None
    version = objects.replace("a", b"one", None)
    assert objects.get("a", most_bytes=9) == Content(b"one", version)
    assert isinstance(objects.get("a", most_bytes=9, known=version), Unchanged)
    with pytest.raises(Conflict):
        objects.replace("a", b"two", None)
    newer = objects.replace("a", b"two", version)
    with pytest.raises(Conflict):
        objects.replace("a", b"three", version)
    with pytest.raises(Conflict):
        objects.replace("missing", b"three", version)
    assert objects.get("a", most_bytes=9, known=version) == Content(b"two", newer)


def test_large_objects_are_refused_and_parts_are_whole(objects):
    objects.put("folder/a", b"0123456789")
    with pytest.raises(ObjectStoreError, match="has 10 bytes, more than the 9"):
        objects.get("folder/a", most_bytes=9)
    assert objects.get_part("folder/a", 2, 5) == b"234"
    assert objects.get_part("folder/a", 8, 12) is None
    assert objects.get_part("folder/a", 20, 22) is None
    assert objects.get_part("missing", 0, 2) is None


def test_keys_are_listed_and_deleted_below_the_address_alone(objects):
    above = Objects(Address("s3", objects.address.bucket, ""))
    above.put("memories/birds-of-others/x", b"")
    objects.put("a/b", b"")
    objects.put("c", b"")
    assert objects.list_keys() == ["a/b", "c"]
    assert above.list_keys() == ["memories/birds-of-others/x", "memories/birds/a/b", "memories/birds/c"]
    objects.delete(["a/b", "gone"])
    assert objects.list_keys() == ["c"]


def test_a_bucket_that_does_not_exist_is_named(object_store):
    objects = Objects(Address.parse("s3://no-such-bucket/birds"))
    for operate in (
        lambda: objects.get("a", most_bytes=9),
        lambda: objects.get_part("a", 0, 1),
        lambda: objects.put("a", b""),
        lambda: objects.list_keys(),
        lambda: objects.replace("a", b"", None),
    ):
        with pytest.raises(ObjectStoreError, match="has no bucket 'no-such-bucket'"):
            operate()


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "AccessDenied", "gives no permission"),
        (403, "InvalidAccessKeyId", "does not accept the credentials"),
        (403, "SignatureDoesNotMatch", "does not accept the credentials"),
        (400, "ExpiredToken", "have expired"),
        (301, "PermanentRedirect", "another region"),
        (400, "Strange", r"not expected \(status 400, Strange\)"),
    ],
)
def test_each_refusal_has_its_sentence(status, code, sentence, monkeypatch, tmp_path):
    body = f"<Error><Code>{code}</Code><Key>{KEY_ID}</Key><StringToSign>hush</StringToSign></Error>"
    with answering(body.encode(), status) as url:
        message = error_at(url, monkeypatch, tmp_path)
    assert re.search(sentence, message)


def test_a_store_that_fails_is_asked_again_and_named(monkeypatch, tmp_path):
    with answering(b"", 503) as url:
        assert f"{url.removeprefix('http://')} answers with status 503 (4 attempts)" in error_at(
            url, monkeypatch, tmp_path
        )


def test_a_store_that_never_answers_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(objects_module, "REQUEST_SECONDS", 0.2)
    with answering(None, 0) as url:
        assert "did not answer within 0.2 s (4 attempts)" in error_at(url, monkeypatch, tmp_path)


def test_a_dead_store_is_named(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    message = error_at(f"http://user:hush@127.0.0.1:{port}", monkeypatch, tmp_path)
    assert f"the server 127.0.0.1:{port} cannot be reached (4 attempts). Check the network" in message


def test_http_needs_permission(monkeypatch, tmp_path):
    assert "set AWS_ALLOW_HTTP=true" in error_at("http://127.0.0.1:9", monkeypatch, tmp_path, AWS_ALLOW_HTTP="false")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_providers_name_their_own_variables(scheme, monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    message = str(store_failure(Address(scheme, "bucket", ""), "reading x", "status code: 403"))
    assert {"gs": "GOOGLE_…", "az": "AZURE_…"}[scheme] in message


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("s3://bucket/birds", {}),
        ("gs://bucket/birds", {}),
        ("az://container/birds", {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": "aGVsbG8="}),
    ],
)
def test_each_provider_has_its_client(address, variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(Objects(Address.parse(address)).address) == address


def test_settings_that_cannot_be_used_are_told(monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{"private": "hush"}')
    with pytest.raises(ObjectStoreError, match="credentials") as failure:
        Objects(Address("gs", "bucket", "birds"))
    assert "hush" not in str(failure.value)


def test_without_obstore_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ObjectStoreError, match=r'pip install "recognizer\[objects\]"'):
        Objects(Address.parse("s3://bucket/birds"))
