"""A real server on the loopback: its rows are those of a run, its edits last, its limits hold, and it ends politely."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import httpx2 as httpx
import pytest

from memory import Category, Memory
from recognizer.demo import DATA
from recognizer.results.lines import encode_row
from recognizer.serving import places
from recognizer.serving.listening import address, is_everywhere
from recognizer.serving.settings import ServeSettings
from tests.recognizer.serving.running import raw_request, running
from tests.remembering import remembering

PHOTOS = sorted((DATA / "photos").glob("*.jpg"))[:4]
JSON_HEAD = b"POST /v1/recognize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def encoder(starter):
    return remembering(starter)


@pytest.fixture(scope="module")
def client(demo_memory, encoder):
    with running(demo_memory, encoder) as (client, _, _):
        yield client


@pytest.fixture
def writable(demo_memory, encoder, tmp_path):
    folder = shutil.copytree(demo_memory, tmp_path / "memory")
    with running(folder, encoder, writable=True, token="secret") as (client, _, _):
        client.headers["authorization"] = "Bearer secret"
        yield client, folder


def form(*paths):
    return [("images", (path.name, path.read_bytes())) for path in paths]


def as_json(*paths, **options):
    images = [{"name": path.name, "base64": base64.b64encode(path.read_bytes()).decode()} for path in paths]
    return {"images": images} | options


def held_connection(client, data=b""):
    """Open a connection, send something, and wait until the server has seen it."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)
    connection.sendall(data)
    time.sleep(0.02)
    return connection


def rows(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["rows"]


def message(reply, status):
    assert reply.status_code == status, reply.text
    assert "Traceback" not in reply.text
    return reply.json()["error"]["message"]


def test_the_rows_are_those_of_a_run_to_the_byte_by_form_and_by_json(client, demo_recognizer):
    expected = demo_recognizer.recognize(PHOTOS, keys=[path.name for path in PHOTOS])
    text = b'{"rows":[' + b",".join(encode_row(row).strip() for row in expected) + b"]}"
    assert client.post("/v1/recognize", files=form(*PHOTOS)).content == text
    assert client.post("/v1/recognize", json=as_json(*PHOTOS)).content == text


def test_an_image_that_cannot_be_decoded_costs_itself_alone(client):
    files = [*form(PHOTOS[0]), ("images", ("notes.txt", b"hello")), ("images", ("empty", b""))]
    first, second, third = rows(client.post("/v1/recognize", files=files))
    assert first["status"] == "ok"
    assert second["error"]["code"] == "E_NOT_IMAGE"
    assert third["error"]["code"] == "E_EMPTY"


def test_options_are_those_of_the_request(client):
    one, other = (rows(client.post("/v1/recognize", json=as_json(PHOTOS[0], top_k=k)))[0] for k in (1, 7))
    assert (len(one["candidates"]), len(other["candidates"])) == (1, 7)
    assert one["candidates"][0]["category"] == other["candidates"][0]["category"]
    assert one["candidates"][0]["score"] == pytest.approx(other["candidates"][0]["score"], abs=1e-6)


def test_boxes_are_recognised_in_place_of_the_image(client):
    found = rows(
        client.post("/v1/recognize", json=as_json(PHOTOS[0], PHOTOS[1], boxes=[[[0, 0, 90, 90], [5, 5, 5, 9]], None]))
    )
    assert [row.get("box", {}).get("xyxy") for row in found] == [[0, 0, 90, 90], None, None]
    assert [row["status"] for row in found] == ["ok", "error", "ok"]
    again = rows(client.post("/v1/recognize", files=form(PHOTOS[0]), data={"boxes": "[[[0, 0, 90, 90]]]"}))
    assert again == found[:1]


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        (lambda: {"content": b"{", "headers": {"content-type": "application/json"}}, "JSON"),
        (lambda: {"json": {"images": []}}, "images"),
        (lambda: {"json": {"images": [{"base64": "%%%"}]}}, "base64"),
        (lambda: {"json": {"images": [{"url": "http://example.org/a.jpg"}]}}, "base64"),
        (lambda: {"json": as_json(PHOTOS[0], top_k=0)}, "top_k"),
        (lambda: {"json": as_json(PHOTOS[0], top_k=10**9)}, "up to 100"),
        (lambda: {"json": as_json(PHOTOS[0]), "params": {"top_k": "3"}}, "'top_k' is not read from the address"),
        (lambda: {"files": form(PHOTOS[0]), "data": {"top_k": "abc"}}, "top_k: "),
        (lambda: {"files": form(PHOTOS[0]), "data": {"top_k": "-1"}}, "top_k: "),
        (lambda: {"files": form(PHOTOS[0]), "data": {"top_k": "101"}}, "up to 100"),
        (lambda: {"json": as_json(PHOTOS[0], rerank=True)}, "--rerank-model"),
        (lambda: {"json": as_json(PHOTOS[0], boxes=[])}, "one per image"),
        (lambda: {"files": form(PHOTOS[0]), "data": {"top": "3"}}, "no field 'top'"),
        (lambda: {"files": form(PHOTOS[0]), "data": {"boxes": "[[1,2]]"}}, "boxes"),
        (lambda: {"files": [("file", ("a.jpg", b"x"))]}, 'field "images"'),
        (lambda: {"files": form(*PHOTOS[:1] * 33)}, "1 to 32"),
        (lambda: {"content": b"abc"}, "multipart/form-data"),
    ],
)
def test_a_request_that_makes_no_sense_gets_a_sentence(client, request_of, said):
    assert said in message(client.post("/v1/recognize", **request_of()), 400)


@pytest.mark.parametrize(
    ("host", "shown", "everywhere"),
    [
        ("0.0.0.0", "http://127.0.0.1:80", True),
        ("::", "http://[::1]:80", True),  # a socket of IPv6 alone
        ("127.0.0.1", "http://127.0.0.1:80", False),
        ("::1", "http://[::1]:80", False),
        ("birds.example.org", "http://birds.example.org:80", False),
    ],
)
def test_the_address_that_is_shown_can_be_opened(host, shown, everywhere):
    assert (address(host, 80), is_everywhere(host)) == (shown, everywhere)


def test_no_file_of_a_request_is_left(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = [("images", ("large", b"x" * 2**19))]
    assert len(rows(client.post("/v1/recognize", files=[*form(PHOTOS[0]), *large]))) == 2
    assert len(rows(client.post("/v1/recognize", json=as_json(PHOTOS[0])))) == 1
    assert message(client.post("/v1/recognize", json={"images": [{"base64": "AAAA"}, {"base64": "%"}]}), 400)
    assert list(tmp_path.iterdir()) == []


def test_names_of_images_are_only_names(client):
    names = ["../../etc/passwd", "a/b.jpg", "<img src=x onerror=alert(1)>", "x" * 10_000, "naïve 🦉", ""]
    found = rows(client.post("/v1/recognize", json={"images": [{"name": n[:4096], "base64": "AAAA"} for n in names]}))
    assert [row["path"] for row in found] == [*(n[:4096] for n in names[:-1]), "5"]


def test_categories_are_listed_searched_and_paged(client, demo_memory):
    names = sorted(category.name for category in Memory.open(demo_memory).bare_categories())
    whole = client.get("/v1/categories").json()
    assert [one["name"] for one in whole["categories"]] == names
    part = client.get("/v1/categories", params={"search": names[0][:4].upper(), "limit": 1}).json()
    assert part["total"] == sum(names[0][:4].casefold() in name.casefold() for name in names)
    assert [one["name"] for one in part["categories"]] == names[:1]
    assert "limit" in message(client.get("/v1/categories", params={"limit": 0}), 400)


def test_health_metrics_documents_and_page(client):
    assert client.get("/health/live").json() == {"status": "alive"}
    assert client.get("/health/ready").json()["memory"]["categories"] == 32
    assert 'recognizer_requests_total{route="/v1/recognize",status="200"}' in client.get("/metrics").text
    assert 'route="other"' not in client.get("/metrics").text
    assert "/v1/recognize" in client.get("/openapi.json").json()["paths"]
    assert "http" not in client.get("/docs").text.replace(str(client.base_url), "").split("<script", 1)[1].split(">")[0]
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/page/page.js").headers["content-type"].startswith("text/javascript")
    assert message(client.get("/page/..%2fserver.py"), 404)


def test_the_documents_show_each_body_and_one_form_of_errors(writable):
    client, _ = writable
    api = client.get("/openapi.json").json()
    operations = {(verb, path): one for path, verbs in api["paths"].items() for verb, one in verbs.items()}
    assert len(operations) == 9
    tags = {tag["name"] for tag in api["tags"]}
    for operation in operations.values():
        assert set(operation["tags"]) < tags
        assert "422" not in operation["responses"]
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]["properties"]["error"]
        assert set(error["properties"]) == set(client.get("/v1/none").json()["error"])
    for path, options in [("/v1/recognize", {"top_k", "rerank", "boxes"}), ("/v1/exemplars", set())]:
        for body in operations["post", path]["requestBody"]["content"].values():
            assert set(body["schema"]["properties"]) == {"images"} | options
    references = re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(api))
    for reference in references:
        found = api
        for part in reference.split("/"):
            found = found[part]


def test_edits_are_refused_where_the_server_is_not_writable(client):
    assert message(client.post("/v1/categories", json=[{"name": "x"}]), 405)
    assert message(client.delete("/v1/categories/x"), 404)


def test_edits_answer_the_next_request_and_last(writable):
    client, folder = writable
    reply = client.post("/v1/categories", json=[{"name": "moon/walker", "descriptions": ["a white suit"]}])
    assert reply.status_code == 201
    assert reply.json()["memory"]["categories"] == 33
    added = client.post("/v1/exemplars", params={"category": "moon/walker"}, files=form(PHOTOS[0]))
    assert (added.status_code, added.json()["encoded"]) == (201, 1)
    assert rows(client.post("/v1/recognize", files=form(PHOTOS[0])))[0]["label"] == "moon/walker"
    assert (added.json()["problems"], added.json()["warnings"]) == ([], [])
    assert Memory.open(folder).vectors.exemplar_references == [PHOTOS[0].name]
    other = Memory.open(folder).vectors.categories[0].name
    again = client.post("/v1/exemplars", params={"category": other}, files=form(PHOTOS[0], PHOTOS[1]))
    assert again.json()["warnings"] == [f"equal images of different categories: {PHOTOS[0].name}, {PHOTOS[0].name}"]
    assert client.delete("/v1/exemplars", params={"reference": PHOTOS[1].name}).json()["removed"] == 1
    assert client.delete("/v1/exemplars", params={"reference": PHOTOS[0].name}).json()["removed"] == 2
    assert client.delete("/v1/categories/moon/walker").json()["memory"]["categories"] == 32
    assert rows(client.post("/v1/recognize", files=form(PHOTOS[0])))[0]["label"] != "moon/walker"


def test_edits_of_what_is_not_there_are_not_found(writable):
    client, folder = writable
    before = Memory.open(folder).digest
    assert "holds no category" in message(client.delete("/v1/categories/unicorn"), 404)
    assert "holds no category" in message(client.post("/v1/exemplars?category=unicorn", files=form(PHOTOS[0])), 404)
    assert "neither" in message(client.delete("/v1/exemplars", params={"reference": "no.jpg"}), 404)
    assert "is empty" in message(client.post("/v1/categories", json=[]), 400)
    assert "body.0.name" in message(client.post("/v1/categories", json=[{"name": ""}]), 400)
    assert "category" in message(client.post("/v1/exemplars", files=form(PHOTOS[0])), 400)
    boxed = as_json(PHOTOS[0], boxes=[None])
    assert "without boxes" in message(client.post("/v1/exemplars?category=cat", json=boxed), 400)
    assert "NUL" in message(client.post("/v1/categories", json=[{"name": "a\0b"}]), 400)
    client.headers["authorization"] = "Bearer wrong"
    assert message(client.post("/v1/categories", json=[{"name": "x"}]), 401)
    assert Memory.open(folder).digest == before


def test_a_full_queue_says_when_to_ask_again(demo_memory, encoder):
    with running(demo_memory, encoder, settings=ServeSettings(queue=2)) as (client, service, _):
        reply = client.post("/v1/recognize", files=form(*PHOTOS[:3]))
        assert message(reply, 503)
        assert reply.headers["retry-after"] == "1"
        assert len(rows(client.post("/v1/recognize", files=form(*PHOTOS[:2])))) == 2
        assert service.waiting == 0


def test_long_bodies_and_slow_ones_are_refused(demo_memory, encoder):
    limits = ServeSettings(max_body_bytes=100_000, body_seconds=0.3, header_seconds=0.3)
    with running(demo_memory, encoder, settings=limits) as (client, _, _):
        assert message(client.post("/v1/recognize", files=[("images", ("a", b"x" * 200_000))]), 413)
        chunked = client.post(
            "/v1/recognize", content=iter([b"x" * 60_000] * 3), headers={"content-type": "application/json"}
        )
        assert message(chunked, 413)
        assert raw_request(client, JSON_HEAD + b"content-length: 50\r\n\r\n{").startswith(b"HTTP/1.1 408 ")
        assert raw_request(client, JSON_HEAD) == b""  # a header that does not end
        assert raw_request(client, b"") == b""  # none at all
        assert raw_request(client, b"\0\1\2 junk\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert client.get("/health/live").status_code == 200


def test_bodies_that_come_slowly_keep_no_other_waiting(demo_memory, encoder):
    with running(demo_memory, encoder, settings=ServeSettings(body_seconds=60)) as (client, _, _):
        slow = [held_connection(client, JSON_HEAD + b"content-length: 50\r\n\r\n{") for _ in range(8)]
        assert len(rows(client.post("/v1/recognize", json=as_json(PHOTOS[0]), timeout=20))) == 1
        for connection in slow:
            connection.close()


def test_slow_bodies_give_their_places_up_to_others_the_slowest_first(demo_memory, encoder, monkeypatch):
    monkeypatch.setattr(places, "SLOW_AFTER_S", 0.1)
    settings = ServeSettings(most_uploads=2, body_seconds=60)
    with running(demo_memory, encoder, settings=settings) as (client, _, _):
        begun = JSON_HEAD + b"content-length: 99\r\n\r\n"
        slower, slow = (held_connection(client, begun + b" " * count) for count in (1, 50))
        time.sleep(0.1)
        assert len(rows(client.post("/v1/recognize", json=as_json(PHOTOS[0]), timeout=20))) == 1
        assert slower.recv(12) == b"HTTP/1.1 503"
        slow.settimeout(0.1)
        with pytest.raises(TimeoutError):  # it still has its place
            slow.recv(1)
        for connection in (slower, slow):
            connection.close()


def test_of_too_many_connections_those_are_closed_that_say_nothing(demo_memory, encoder):
    with running(demo_memory, encoder, settings=ServeSettings(connections=3, header_seconds=60)) as (client, _, _):
        silent = [held_connection(client) for _ in range(3)]
        assert client.get("/health/live", headers={"connection": "close"}).status_code == 200
        begun = JSON_HEAD + b"content-length: 50\r\n\r\n{"
        at_work = [held_connection(client, begun) for _ in range(3)]
        assert [connection.recv(1) for connection in silent] == [b""] * 3
        late = held_connection(client, begun)
        assert late.recv(1) == b""  # all others are at work
        for connection in (*silent, *at_work, late):
            connection.close()
        time.sleep(0.1)
        assert client.get("/health/live").status_code == 200


def test_no_request_is_lost_while_the_memory_is_swapped_and_the_server_stops(demo_memory, encoder, starter, tmp_path):
    folder = shutil.copytree(demo_memory, tmp_path / "memory")
    data, answers, failures = PHOTOS[0].read_bytes(), [], []
    with running(folder, encoder) as (client, service, server):
        stop = threading.Event()

        def ask():
            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                while not stop.is_set():
                    try:
                        answers.append(len(rows(own.post("/v1/recognize", files={"images": ("a.jpg", data)}))))
                    except httpx.ConnectError:  # it no longer listens
                        return
                    except (httpx.HTTPError, AssertionError) as error:
                        failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(3):
            Memory.open(folder).add([Category(f"thing {number}")], encoder=starter)
            service.followed.refresh()
        assert service.followed.current.number == 4
        server.should_exit = True
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join(60)
    assert answers
    assert [error for error in failures if not isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)] == []


def test_the_command_serves_prints_its_token_and_stops(demo_memory, tmp_path):
    command = [sys.executable, "-m", "recognizer", "serve", "--memory", str(demo_memory), "--port", "0", "--writable"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        shown, _, fragment = process.stdout.readline().strip().partition("#token=")
        token = {"authorization": f"Bearer {fragment}"}
        assert len(fragment) > 20
        until = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{shown}health/ready").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)
        assert httpx.get(f"{shown}v1/categories").status_code == 401
        assert httpx.get(f"{shown}v1/categories", headers=token).json()["total"] == 32
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert fragment in said
    assert said.endswith("stopped\n")
    assert "Traceback" not in said
