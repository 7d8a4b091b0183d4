"""Who is let in: hosts, origins, tokens, and bodies that are too long or too slow."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from recognizer.serving.guards import Guard
from recognizer.serving.settings import ServeSettings


def ask(headers, *, path="/v1/recognize", token=None, names=(), settings=None, body=(b"x",), pause=0.0):
    """Return the status of the answer, 200 where the request was let in and its body read."""
    sent = []

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    parts = iter(body)

    async def receive():
        await asyncio.sleep(pause)
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    scope = {
        "type": "http",
        "scheme": "http",
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    guard = Guard(app, token=token, names=names, settings=settings or ServeSettings())
    with ThreadPoolExecutor(1) as pool:  # the browser of other tests has an event loop in this one
        pool.submit(asyncio.run, guard(scope, receive, send)).result()
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),
        ("birds.example.org", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_only_own_names_and_addresses_are_hosts(host, status):
    assert ask([("host", host)], names=["Birds.Example.org"]) == status


def test_one_host_and_no_more():
    assert ask([]) == 421
    assert ask([("host", "localhost"), ("host", "localhost")]) == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("http://evil.example", 403),
        ("https://localhost:8000", 403),
        ("http://localhost:9000", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_origins_are_refused(origin, status):
    assert ask([("host", "localhost:8000"), ("origin", origin)]) == status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Bearer secreT", 401),
        ("Bearer", 401),
        ("Basic secret", 401),
        ("secret", 401),
        ("Bearer \xff", 401),
        ("", 401),
    ],
)
def test_the_token_is_needed(given, status):
    assert ask([("host", "localhost"), ("authorization", given)], token="secret") == status


def test_health_and_the_page_need_no_token_and_all_the_rest_does():
    for path, status in [
        ("/health/ready", 200),
        ("/", 200),
        ("/page/page.js", 200),
        ("/metrics", 401),
        ("/pagex", 401),
    ]:
        assert ask([("host", "localhost")], path=path, token="secret") == status


def test_a_body_that_says_it_is_too_long_is_not_read():
    small = ServeSettings(max_body_bytes=10)
    assert ask([("host", "localhost"), ("content-length", "11")], settings=small) == 413
    assert ask([("host", "localhost"), ("content-length", "10")], settings=small) == 200


@pytest.mark.parametrize(("length", "left"), [("3", 0), ("65536", 0), ("65537", 3), ("", 3), ("x", 3)])
def test_a_short_body_of_a_refused_request_is_read_so_that_the_answer_arrives(length, left):
    body = iter([b"a", b"b", b"c"])
    assert ask([("host", "localhost"), ("content-length", length)], token="secret", body=body) == 401
    assert len(list(body)) == left


def test_a_short_body_that_does_not_come_is_not_waited_for_for_long():
    body = iter([b"x"] * 10_000)
    assert ask([("host", "localhost"), ("content-length", "9")], token="secret", body=body, pause=0.05) == 401
    assert len(list(body)) > 9_000


def test_a_slow_body_ends_in_a_sentence():
    from starlette.exceptions import HTTPException

    hasty = ServeSettings(body_seconds=0.05)
    with pytest.raises(HTTPException) as caught:  # which the application answers with
        ask([("host", "localhost")], settings=hasty, body=[b"x"] * 100, pause=0.01)
    assert caught.value.status_code == 408
    assert ask([("host", "localhost")], settings=hasty, body=[b"x"]) == 200
