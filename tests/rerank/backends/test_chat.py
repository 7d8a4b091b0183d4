import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.backends.chat import Completion, Manner, chat_body, read_completion
from rerank.backends.dialects import symbol_log_probs
from rerank.backends.failures import UnreadableError
from rerank.mllm import SYMBOLS, Usage
from tests.rerank.fake_server import completion, listed


def test_a_text_that_cannot_be_encoded_is_mended():
    body = chat_body("m", "data:x", "a \ud800 b", {"logprobs": True})
    assert body["model"] == "m"
    assert body["messages"][0]["content"][1]["text"] == "a ? b"
    assert body["logprobs"] is True


def test_a_manner_leaves_out_what_a_refusal_names_until_nothing_is_left():
    manner = Manner()
    assert manner.fields(5) == {"max_tokens": 5, "temperature": 0}
    assert manner.without("the image is broken") is None
    newer = manner.without("use 'max_completion_tokens' instead of 'max_tokens'")
    assert newer.fields(5) == {"max_completion_tokens": 5, "temperature": 0}
    warmer = newer.without("'temperature' and max_tokens are not supported")
    assert warmer.fields(5) == {"max_completion_tokens": 5}
    assert warmer.without("temperature, max_tokens") is None


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
