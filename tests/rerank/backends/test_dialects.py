import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.backends.chat import Completion
from rerank.backends.dialects import (
    CONSTRAINED,
    JSON_SCHEMA,
    LLAMA_CPP,
    PLAIN,
    VLLM,
    read_leniently,
    symbol_log_probs,
    unmentioned_symbol,
)
from rerank.backends.failures import UnreadableError
from rerank.mllm import LOWEST_LOG_PROB, SYMBOLS
from tests.rerank.fake_server import listed

FIVE = SYMBOLS[:5]


def answer_with(tokens):
    return Completion("".join(token["token"] for token in tokens), tuple(tokens))


def top(token, **probabilities):
    """A generated token and the list the server gives with it, from names such as `A` or `_A` for ` A`."""
    entries = [listed(name.replace("_", " "), math.log(value)) for name, value in probabilities.items()]
    return listed(token, math.log(probabilities.get(token, 0.5))) | {"top_logprobs": entries}


# Fields


def test_fields_name_exactly_the_symbols():
    assert VLLM.fields(FIVE)["structured_outputs"] == {"choice": ["A", "B", "C", "D", "E"]}
    assert LLAMA_CPP.fields(("A", "B")) == {"grammar": 'root ::= "A" | "B"'}
    form = JSON_SCHEMA.fields(("A", "B"))["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"]["properties"] == {"answer": {"type": "string", "enum": ["A", "B"]}}
    assert PLAIN.fields(FIVE) == {}


def test_one_token_where_one_token_is_enough():
    assert (VLLM.max_tokens, LLAMA_CPP.max_tokens) == (1, 1)
    assert CONSTRAINED == (VLLM, LLAMA_CPP, JSON_SCHEMA)


# Reading texts


@pytest.mark.parametrize("dialect", [VLLM, LLAMA_CPP])
def test_one_token_dialects_read_the_symbol_alone(dialect):
    assert dialect.read(" C\n", FIVE) == 2
    for text in ("", "F", "AB", "c", "A.", "The answer is C", '{"answer": "C"}'):
        with pytest.raises(UnreadableError, match=dialect.name):
            dialect.read(text, FIVE)


def test_the_schema_dialect_reads_its_object_alone():
    assert JSON_SCHEMA.read('{\n "answer" : "C" }', FIVE) == 2
    for text in ("C", '{"answer": "F"}', '{"answer": ["C"]}', '["C"]', '{"answer": "C"', '{"x": "C"}', "[" * 100_000):
        with pytest.raises(UnreadableError):
            JSON_SCHEMA.read(text, FIVE)


@pytest.mark.parametrize(
    "text",
    ["B", " b", "B.", " b)", "(B)", "**B**", "B: thing", "`B`", '"B"', '{"answer":"B"}', "The answer is B", "Option B.",
     "Answer: B\n", "B\n\nBecause it is blue", "I think B", "A cat, so B", "__B__", "B – the second",
     '{"answer": "B)"}', '{"answer": ["B"]}'],
)  # fmt: skip
def test_one_option_named_is_read(text):
    assert read_leniently(text, FIVE) == 1
    assert PLAIN.read(text, FIVE) == 1


@pytest.mark.parametrize(
    "text",
    ["", " ", "A or B", "F", "Z", "1", "cat", "A cat", "I think it is a cat", "AB", "B-52", "don't know", "B's", "A, B",
     "the b option", "²", "É", "{}", "A and B"],
)  # fmt: skip
def test_what_could_mean_two_options_or_none_is_not_read(text):
    with pytest.raises(UnreadableError):
        read_leniently(text, SYMBOLS[:9] if text.startswith("I ") else FIVE)


@given(st.text(), st.integers(1, 20))
def test_any_text_is_read_or_refused_in_one_printable_line(text, count):
    symbols = SYMBOLS[:count]
    for dialect in (*CONSTRAINED, PLAIN):
        try:
            assert 0 <= dialect.read(text, symbols) < count
        except UnreadableError as error:
            reason = str(error)
        else:
            reason = ""
        assert reason.isascii()
        assert reason.isprintable()
        assert len(reason) < 600


@given(st.text(), st.integers(1, 20))
def test_the_probe_forces_what_the_plain_answer_does_not_begin_a_word_with(text, count):
    forced = unmentioned_symbol(text, SYMBOLS[:count])
    words = re.findall(r"[^\W\d_]+", text)
    initials = {word[0].upper() for word in words}
    free = [symbol for symbol in SYMBOLS if symbol not in initials]
    assert forced not in initials or not free
    if set(free) & set(SYMBOLS[:count]):
        assert forced in SYMBOLS[:count]


def test_the_probe_prefers_the_last_option():
    assert unmentioned_symbol("A", FIVE) == "E"
    assert unmentioned_symbol("Elephant", FIVE) == "D"
    assert unmentioned_symbol("A", ("A",)) != "A"


# Log-probabilities


def reference(entries, symbols):
    """The definition, in probabilities: sum variants; bound what is not listed; renormalise."""
    probabilities = dict.fromkeys(symbols, 0.0)
    for token, probability in entries:
        if token.strip() in probabilities:
            probabilities[token.strip()] += probability
    listed_sum = sum(probability for _, probability in entries)
    bound = min(min(probability for _, probability in entries), max(1 - listed_sum, 1e-9))
    filled = [probability or bound for probability in probabilities.values()]
    return [math.log(one / sum(filled)) for one in filled]


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", " A", "B", " B", "C", "D", "\nD", "E", "the", "x"]), st.floats(1e-6, 1)),
        min_size=1,
        max_size=10,
        unique_by=lambda entry: entry[0],
    )
)
def test_log_probabilities_match_their_definition(entries):
    total = sum(weight for _, weight in entries) + 0.01
    entries = [(token, weight / total) for token, weight in entries]
    chosen = entries[0][0].strip()
    if chosen not in FIVE:
        return
    best = [listed(token, math.log(probability)) for token, probability in entries]
    found = symbol_log_probs(answer_with([best[0] | {"top_logprobs": best}]), FIVE, FIVE.index(chosen))
    assert found == pytest.approx(reference(entries, FIVE), abs=1e-9)
    assert math.fsum(map(math.exp, found)) == pytest.approx(1)


def test_they_are_read_where_the_symbol_was_generated():
    """In `{"answer": "B"}` the first token says nothing about options."""
    first = top('{"', A=0.5, B=0.1)
    right = top(' "', A=0.1) | {"token": ' "', "top_logprobs": []}
    symbol = top("B", A=0.2, B=0.6)
    found = symbol_log_probs(answer_with([first, right, symbol]), ("A", "B"), 1)
    assert [math.exp(value) for value in found] == pytest.approx([0.25, 0.75])


def test_no_list_or_another_token_gives_none():
    assert symbol_log_probs(answer_with([top("B", A=0.5)]), FIVE, 0) is None
    assert symbol_log_probs(answer_with([listed("A", -0.1)]), FIVE, 0) is None
    assert symbol_log_probs(answer_with([listed("A", -0.1) | {"top_logprobs": []}]), FIVE, 0) is None


def test_a_list_of_one_does_not_make_all_options_alike():
    found = symbol_log_probs(answer_with([top("A", A=0.9)]), FIVE, 0)
    assert math.exp(found[0]) == pytest.approx(0.9 / 1.3)


def test_masked_tokens_are_very_improbable():
    token = listed("A", 0.0) | {"top_logprobs": [listed("A", 0.0), listed("B", -math.inf), listed("C", -9999.0)]}
    found = symbol_log_probs(answer_with([token]), ("A", "B", "C"), 0)
    assert found == pytest.approx((0.0, LOWEST_LOG_PROB, LOWEST_LOG_PROB))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, 10**400, "0.5", None, True, [0.1]])
def test_what_is_no_log_probability_is_unreadable(value):
    token = listed("A", 0.0) | {"top_logprobs": [listed("A", 0.0), listed("B", 0.0) | {"logprob": value}]}
    with pytest.raises(UnreadableError, match="log-probability") as caught:
        symbol_log_probs(answer_with([token]), FIVE, 0)
    assert str(caught.value).isprintable()


def test_an_integer_too_long_for_a_float_is_very_improbable():
    token = listed("A", 0.0) | {"top_logprobs": [listed("A", 0.0), listed("B", 0.0) | {"logprob": -(10**400)}]}
    assert symbol_log_probs(answer_with([token]), ("A", "B"), 0) == pytest.approx((0.0, LOWEST_LOG_PROB))
