import math

import numpy as np
import pytest
from PIL import Image

from rerank.ask import TOKENS_PER_NAME, ask_by_choice, ask_by_list
from rerank.base import Answer, Candidate, Question
from rerank.counts import RerankCounts
from rerank.mllm import LOWEST_LOG_PROB, SYMBOLS, Choice, Failure
from tests.rerank.scripted import ScriptedMllm, choice, options, preferring

IMAGE = Image.new("RGB", (8, 8))


def about(*names):
    return Question("sha", lambda: IMAGE, [Candidate(name, ("one", "two")) for name in names])


def by_choice(mllm, *questions, rotations=None, descriptions=3):
    counts = RerankCounts()
    return ask_by_choice(mllm, questions, rotations=rotations, descriptions=descriptions, counts=counts), counts


def by_list(mllm, *questions):
    counts = RerankCounts()
    return ask_by_list(mllm, questions, counts=counts), counts


def test_all_rotations_of_all_questions_are_one_call():
    mllm = preferring("cba")
    calls = []
    mllm.choose, choose = (lambda requests: calls.append(requests) or choose(requests)), mllm.choose
    answers, counts = by_choice(mllm, about("a", "b", "c"), about("x", "a"), rotations=2)
    ((first, second, *other),) = calls
    shown = [[name for _, name in options(request.text)] for request in (first, second, *other)]
    assert shown == [["a", "b", "c"], ["b", "c", "a"], ["x", "a"], ["a", "x"]]
    assert [request.symbols for request in (first, *other)] == [SYMBOLS[:3], SYMBOLS[:2], SYMBOLS[:2]]
    assert first.image is second.image is IMAGE
    assert np.exp(answers[0].log_probs).argmax() == 2
    assert np.exp(answers[1].log_probs).argmax() == 1
    assert (counts.requests, counts.prompt_tokens, counts.generated_tokens) == (4, 40, 4)


def calls_of(mllm):
    """What each call of `choose` is asked."""
    calls = []
    mllm.choose, choose = (lambda requests: calls.append(requests) or choose(requests)), mllm.choose
    return calls


def first_options(requests):
    return [options(request.text)[0][1] for request in requests]


def test_auto_asks_for_the_other_rotations_only_where_the_first_place_is_open():
    mllm = preferring("b", biased_to=0, bias=1.5)  # it knows b alone
    calls = calls_of(mllm)
    (sure, unsure), counts = by_choice(mllm, about(*"axyzb"), about(*"vwxyz"), rotations="auto")
    assert [first_options(requests) for requests in calls] == [[*"axz", *"vwy"], [*"xz"]]
    assert (counts.requests, np.argmax(sure.log_probs)) == (8, 4)
    (expected,), _ = by_choice(preferring("b", biased_to=0, bias=1.5), about(*"vwxyz"))
    assert unsure.log_probs == pytest.approx(expected.log_probs)


def test_auto_is_one_call_where_all_is_settled_or_there_are_no_more_rotations():
    mllm = preferring("cba")
    calls = calls_of(mllm)
    by_choice(mllm, about(*"abc"), about(*"xc"), rotations="auto")
    assert len(calls) == 1


@pytest.mark.parametrize(("failed", "asked_for"), [(1, 5), (3, 3)])
def test_auto_asks_on_where_some_of_the_first_rotations_failed_and_not_where_all_did(failed, asked_for):
    replies = iter([Failure("timeout")] * failed + [choice([1, 1, 1, 1, 99])] * 5)
    mllm = ScriptedMllm(lambda _: next(replies))
    (answer,), counts = by_choice(mllm, about(*"abcde"), rotations="auto")
    assert counts.requests == len(mllm.asked) == asked_for
    assert isinstance(answer, Failure) == (failed == 3)


def test_descriptions_are_limited():
    mllm = preferring("ab")
    by_choice(mllm, about("a", "b"), descriptions=1)
    assert all('"one"' in request.text and "two" not in request.text for request in mllm.asked)


def test_failed_rotations_are_noted_and_one_that_succeeds_is_enough():
    replies = iter([Failure("timeout"), choice([1, 3]), choice([1, 3]), choice([3, 1])])
    (partial, whole), counts = by_choice(ScriptedMllm(lambda _: next(replies)), about("a", "b"), about("a", "b"))
    assert np.exp(partial.log_probs) == pytest.approx([0.75, 0.25])  # option b stood first
    assert (partial.failed, partial.reasons) == (1, ("1 of 2 rotations failed",))
    assert np.exp(whole.log_probs) == pytest.approx([0.25, 0.75])
    assert (whole.failed, whole.reasons) == (0, ())
    assert (counts.requests, counts.generated_tokens) == (4, 3)


def test_without_an_answer_the_hopeless_failure_is_the_reason():
    replies = iter([Failure("timeout"), Failure("refused", hopeless=True), Failure("timeout")])
    (answer,), _ = by_choice(ScriptedMllm(lambda _: next(replies)), about("a", "b", "c"))
    assert answer == Failure("refused", hopeless=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3.0])
def test_log_probabilities_that_are_not_numbers_below_0_are_refused(bad):
    (answer,), _ = by_choice(ScriptedMllm(lambda _: Choice((bad, -1.0), 0)), about("a", "b"))
    assert answer == Failure("unreadable: log-probabilities must be numbers of at most 0")


def test_an_impossible_option_stays_an_option():
    (answer,), _ = by_choice(ScriptedMllm(lambda _: Choice((-math.inf, 0.0), 1)), about("a", "b"), rotations=1)
    assert answer.log_probs == pytest.approx((LOWEST_LOG_PROB, 0.0))


def test_a_list_becomes_weights_by_place():
    (answer,), counts = by_list(preferring("cab"), about("a", "b", "c"))
    assert np.exp(answer.log_probs) == pytest.approx(np.array([1 / 2, 1 / 3, 1]) / (11 / 6))
    assert (answer.reasons, answer.failed) == ((), 0)
    assert (counts.requests, counts.generated_tokens, counts.mended) == (1, 5, 0)


def test_a_list_with_faults_is_counted_and_its_reasons_stay():
    mllm = ScriptedMllm(write_one=lambda _: "['c', 'zebra', 'c']")
    (answer,), counts = by_list(mllm, about("a", "b", "c"))
    assert isinstance(answer, Answer)
    assert answer.reasons == ("unknown 1", "repeated 1", "left out 2")
    assert counts.mended == 1
    assert mllm.asked[0].max_tokens == 3 * TOKENS_PER_NAME


def test_each_list_fails_alone():
    replies = iter(["['b', 'a']", "It is b, then a.", Failure("timeout")])
    answers, counts = by_list(ScriptedMllm(write_one=lambda _: next(replies)), *[about("a", "b")] * 3)
    assert answers[0].log_probs[1] > answers[0].log_probs[0]
    assert answers[1:] == [Failure("unreadable: no list of quoted names"), Failure("timeout")]
    assert (counts.requests, counts.mended) == (3, 0)


def test_nothing_asked_sends_nothing():
    mllm = ScriptedMllm()
    assert by_choice(mllm)[0] == by_list(mllm)[0] == []
    assert mllm.asked == []
