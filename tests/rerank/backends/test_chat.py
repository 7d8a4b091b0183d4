import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.backends.chat import Completion, FailedRequest, UnreadableError, chat_body, excerpt, read_completion
from rerank.backends.dialects import symbol_log_probs
from rerank.mllm import SYMBOLS, Usage
from tests.rerank.fake_server import completion, listed


def test_a_text_that_cannot_be_encoded_is_mended():
    body = chat_body("m", "data:x", "a \ud800 b", 1, {"logprobs": True})
    assert body["model"] == "m"
    assert body["extra_body"]["messages"][0]["content"][1]["text"] == "a ? b"
    assert body["extra_body"]["logprobs"] is True


@given(st.text())
def test_excerpts_are_short_and_printable(text):
    assert excerpt(text).isascii()
    assert excerpt(text).isprintable()
    assert excerpt("x" * 40 + text) == repr("x" * 40 if not text else "x" * 37 + "...")


def test_a_completion_is_read():
    token = listed("A", -0.1) | {"top_logprobs": [listed("A", -0.1)]}
    answer = read_completion(json.dumps(completion("A", [token], generated=3)).encode())
    assert answer == Completion("A", (token,), Usage(100, 3))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty reply"),
        (b"  \n", "empty reply"),
        (b" <html>", "a web page"),
        (b'{"choices": [', "broken JSON"),
        (b"\xff\xfe", "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b"null", "no chat completion"),
        (b"[]", "no chat completion"),
        (b"{}", "no chat completion"),
        (b'{"error": {"message": "overloaded"}}', "no chat completion"),
        (b'{"choices": {}}', "no chat completion"),
        (b'{"choices": []}', "empty choices"),
        (b'{"choices": [1]}', "without text"),
        (b'{"choices": [{}]}', "without text"),
        (b'{"choices": [{"message": "A"}]}', "without text"),
        (b'{"choices": [{"message": {"content": null}}]}', "without text"),
        (b'{"choices": [{"message": {"content": ["A"]}}]}', "without text"),
    ],
)
def test_what_is_no_completion_is_unreadable(body, reason):
    with pytest.raises(UnreadableError, match=reason) as caught:
        read_completion(body)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("usage", [None, 3, [], {}, {"prompt_tokens": "x", "completion_tokens": -1}])
def test_odd_counts_are_no_counts(usage):
    assert read_completion(json.dumps(completion("A") | {"usage": usage}).encode()).usage == Usage()


@pytest.mark.parametrize("logprobs", [None, 1, {}, {"content": None}, {"content": [1, None]}, {"content": "A"}])
def test_odd_log_probabilities_are_none(logprobs):
    body = completion("A")
    body["choices"][0]["logprobs"] = logprobs
    answer = read_completion(json.dumps(body).encode())
    assert answer.tokens == ()
    assert symbol_log_probs(answer, SYMBOLS[:5], 0) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "logprobs", "token", "top_logprobs", "logprob"]), inner
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_an_answer_or_unreadable(value):
    try:
        answer = read_completion(json.dumps(value).encode())
        symbol_log_probs(answer, SYMBOLS[:5], 0)
    except UnreadableError:
        pass


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
