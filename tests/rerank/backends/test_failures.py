import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.backends.failures import FailedRequest, excerpt, first_sentence, server_message


@given(st.text())
def test_excerpts_are_short_and_printable(text):
    assert excerpt(text).isascii()
    assert excerpt(text).isprintable()
    assert excerpt("x" * 40 + text) == repr("x" * 40 if not text else "x" * 37 + "...")


@pytest.mark.parametrize(
    ("code", "status", "hopeless"),
    [
        (400, "refused", False), (401, "refused", True), (403, "refused", True), (404, "refused", True),
        (408, "unreachable", False), (409, "unreachable", False), (413, "refused", False), (422, "refused", False),
        (429, "unreachable", False), (500, "unreachable", False), (503, "unreachable", False), (302, "refused", False),
    ],
)  # fmt: skip
def test_status_codes_are_judged(code, status, hopeless):
    failed = FailedRequest.by_code(code, {})
    assert (failed.status, failed.hopeless, failed.code, failed.retry_after_s) == (status, hopeless, code, None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7), ("0.5", 0.5), ("3600", 30), ("-5", None), ("1.2.3", None), ("soon", None), ("", None), ("nan", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0), ("Fri, 31 Dec 2999 23:59:59 GMT", 30),
    ],
)  # fmt: skip
def test_retry_after_is_read_and_capped(header, seconds):
    assert FailedRequest.by_code(429, {"retry-after": header}).retry_after_s == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "No such\\n model", "code": 404}}', "No such model"),
        (b'{"error": "model \\"x\\" not found"}', 'model "x" not found'),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body"], "msg": "Field required"}]}', "Field required"),
        (b"<html><head><title>413 Request Entity Too Large</title></head>", "413 Request Entity Too Large"),
        (b"<html><body>log in</body></html>", ""),
        (b"upstream connect error", "upstream connect error"),
        (b"", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'{"error": 3}', ""),
    ],
)
def test_the_message_is_found_in_the_body_of_any_server(body, message):
    assert server_message(body) == message


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
    st.sampled_from(["error", "message", "detail", "msg"]), inner)))  # fmt: skip
def test_the_message_of_any_json_is_one_line(value):
    message = server_message(json.dumps(value).encode())
    assert message == " ".join(message.split())


def test_the_first_sentence_ends_at_a_full_stop_and_is_cut():
    assert first_sentence("Version 0.32 of vllm.serve failed. Try again.") == "Version 0.32 of vllm.serve failed."
    assert len(first_sentence("x" * 500)) == 200


@pytest.mark.parametrize(
    ("code", "message", "too_long", "about_the_key"),
    [
        (400, "max_tokens is not supported; use max_completion_tokens", False, False),
        (400, "This model's maximum context length is 1024 tokens.", True, False),
        (413, "", True, False),
        (500, "context length", False, False),
        (401, "", False, True),
        (400, "Missing Authorization header", False, True),
        (400, "The api_key client option must be set", False, True),
        (403, "Model access denied", False, False),
        (404, "no authentication route", False, False),
    ],
)
def test_refusals_are_told_apart(code, message, too_long, about_the_key):
    failed = FailedRequest.by_code(code, {}, message)
    assert (failed.too_long, failed.about_the_key) == (too_long, about_the_key)
