import threading

import pytest
from PIL import Image

from rerank.base import GAVE_UP
from rerank.cache import AnswerCache
from rerank.mllm import Failure, MllmUnavailable
from rerank.written import WriteQuestion, Writer
from tests.rerank.scripted import ScriptedMllm

IMAGE = Image.new("RGB", (40, 20), (200, 30, 30))
SCHEMA = {"type": "object"}


def echo(request):
    return f"{request.text} {request.image.size if request.image else None}"


def ask(text, image=None):
    return WriteQuestion(text, 9, SCHEMA, f"hash {image.size}" if image else "", (lambda: image) if image else None)


def test_each_question_has_its_own_answer_and_equal_ones_are_asked_once():
    mllm = ScriptedMllm(write_one=echo, parallel=1)
    writer = Writer(mllm, image_size=20)
    assert writer.write([ask("a"), ask("b", IMAGE), ask("a"), ask("a", IMAGE)]) == [
        "a None", "b (20, 10)", "a None", "a (20, 10)",
    ]  # fmt: skip
    assert [(request.text, request.max_tokens, request.schema) for request in mllm.asked] == [
        ("a", 9, SCHEMA), ("b", 9, SCHEMA), ("a", 9, SCHEMA),
    ]  # fmt: skip
    assert (writer.counts.asked, writer.counts.cached, writer.counts.requests) == (3, 1, 3)
    assert writer.counts.summary().startswith("3 questions asked, 1 cached")
    assert writer.write([]) == []


def test_batches_are_twice_what_the_model_works_on(monkeypatch):
    mllm, calls = ScriptedMllm(write_one=echo, parallel=2), []
    write = mllm.write
    mllm.write = lambda requests: calls.append(len(requests)) or write(requests)
    Writer(mllm).write([ask(str(number)) for number in range(9)])
    assert calls == [4, 4, 1]


def test_what_is_cached_is_not_asked_again_and_its_image_not_loaded(tmp_path):
    def never():
        raise AssertionError

    first = Writer(ScriptedMllm(write_one=echo), cache=AnswerCache(tmp_path / "cache.sqlite"))
    before = first.write([ask("a", IMAGE), ask("b")])
    first.close()
    silent = ScriptedMllm()
    again = Writer(silent, cache=AnswerCache(tmp_path / "cache.sqlite"))
    assert again.write([WriteQuestion("a", 9, SCHEMA, "hash (40, 20)", never), ask("b")]) == before
    again.close()
    other = Writer(
        ScriptedMllm(write_one=lambda r: "other", identity="other"), cache=AnswerCache(tmp_path / "cache.sqlite")
    )
    assert other.write([ask("b")]) == ["other"]
    other.close()


def test_a_batch_is_cached_before_the_next_is_asked(tmp_path):
    def one(request):
        if request.text == "2":
            raise MllmUnavailable("gone")
        return echo(request)

    writer = Writer(ScriptedMllm(write_one=one, parallel=1), cache=AnswerCache(tmp_path / "cache.sqlite"))
    questions = [ask(str(number)) for number in range(4)]
    with pytest.raises(MllmUnavailable):
        writer.write(questions)
    writer.close()
    mllm = ScriptedMllm(write_one=echo)
    again = Writer(mllm, cache=AnswerCache(tmp_path / "cache.sqlite"))
    assert again.write(questions) == [f"{number} None" for number in range(4)]
    assert [request.text for request in mllm.asked] == ["2", "3"]
    again.close()


def test_failures_are_values_and_are_not_cached(tmp_path):
    def broken():
        raise OSError("half a file")

    def one(request):
        if request.text == "raises":
            raise KeyError("odd")
        return Failure("refused") if request.text == "refused" else "fine"

    writer = Writer(ScriptedMllm(write_one=one), cache=AnswerCache(tmp_path / "cache.sqlite"))
    questions = [ask("refused"), ask("raises"), WriteQuestion("x", 9, None, "broken", broken), ask("y")]
    answers = writer.write(questions)
    assert answers[0] == Failure("refused")
    assert answers[1] == Failure("unreadable: KeyError")
    assert answers[2] == Failure("unreadable: image: half a file")
    assert answers[3] == "fine"
    assert dict(writer.counts.failed) == {answer.status: 1 for answer in answers[:3]}
    writer.write(questions)
    assert (writer.counts.asked, writer.counts.cached) == (7, 1)
    writer.close()


def test_after_failures_in_a_row_nothing_more_is_asked():
    warnings = []
    mllm = ScriptedMllm(write_one=lambda request: Failure("timeout"), parallel=1)
    writer = Writer(mllm, give_up_after=3, warn=warnings.append)
    answers = writer.write([ask(str(number)) for number in range(8)])
    assert answers == [Failure("timeout")] * 4 + [Failure(GAVE_UP)] * 4
    assert len(mllm.asked) == 4
    assert writer.counts.skipped == 4
    assert warnings[0] == "scripted: timeout"
    assert "left alone for the rest of the run after 3 failed questions in a row" in warnings[1]


def test_threads_ask_at_once():
    writer = Writer(ScriptedMllm(write_one=echo))
    found = {}

    def work(name):
        found[name] = writer.write([ask(f"{name} {number}") for number in range(20)])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [f"{name} {number} None" for number in range(20)] for name in "abc"}
    assert writer.counts.asked == 60


@pytest.mark.parametrize("odd", [{"image_sha256": "ab"}, {"load": lambda: IMAGE}])
def test_an_image_comes_with_its_hash(odd):
    with pytest.raises(ValueError, match="come together"):
        WriteQuestion("a", 9, **odd)
