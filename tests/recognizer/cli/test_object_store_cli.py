"""Commands whose memory and features stand on an object store."""

import json
import shutil
import socket

import pytest

from memory import Memory, ObjectStoreError
from recognizer.demo import DATA
from recognizer.encoder import Encoder
from tests.objects_server import KEY_ID, SECRET
from tests.recognizer.commands import call


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(DATA / "photos" / name, folder)
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_commands_take_addresses_for_memories_and_features(object_store, photos, tmp_path, monkeypatch):
    address = object_store.new_address()
    features = f"{address}-features"
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\nrocket\nspoon\n")
    _, built, _ = call("build", labels, "--memory", address)
    assert built.startswith(f"{address}: 3 categories")
    _, _, embedded = call("embed", photos, "--features", features, "--memory", address)
    assert f"2 encoded, 0 stored before, 0 failed; features in {features}" in " ".join(embedded.split())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    output = tmp_path / "results.jsonl"
    monkeypatch.setattr(Encoder, "encode_pixels", lambda *_: pytest.fail("features of these images are stored"))
    call("run", photos, "--memory", address, "--output", output, "--features", features)
    assert [row["status"] for row in rows(output)] == ["ok", "ok"]
    _, removed, _ = call("remove", "spoon", "--memory", address)
    assert removed == f"removed 1 category; {address} now has 2 categories\n"
    assert json.loads(call("info", "--memory", address, "--json")[1])["directory"] == address
    assert call("verify", "--memory", address)[0] == 0
    assert call("repair", address)[1].startswith(f"{address}: intact")
    assert "0 groups of copies" in call("near-duplicates", "--features", features)[2]
    assert len(Memory.open(address).vectors.categories) == 2


def test_a_store_that_cannot_be_reached_is_one_sentence_for_memories_and_no_loss_for_features(
    object_store, photos, tmp_path, monkeypatch, demo_memory
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    with pytest.raises(ObjectStoreError, match=r"s3://bucket/birds: reading .* cannot be reached"):
        call("info", "--memory", "s3://bucket/birds")
    output = tmp_path / "a.jsonl"
    code, _, said = call(
        "run", photos, "--memory", demo_memory, "--output", output, "--features", "s3://bucket/features"
    )
    assert code == 0
    assert " ".join(said.split()).count("stored features are not used, and none are stored") == 1
    assert len(rows(output)) == 2
    assert not any(secret in said for secret in (KEY_ID, SECRET))
