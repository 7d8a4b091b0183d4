import pytest
from PIL import Image

from rerank.careful import Patience, ask_apart, scaled_image
from rerank.mllm import Failure, MllmUnavailable


def test_an_image_is_scaled_down_as_rgb_and_never_up():
    assert scaled_image(lambda: Image.new("P", (40, 10)), 20).size == (20, 5)
    assert scaled_image(lambda: Image.new("L", (8, 4)), 20).size == (8, 4)
    assert scaled_image(lambda: Image.new("L", (8, 4)), 20).mode == "RGB"


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_an_image_that_cannot_be_read_is_a_failure(error):
    def load():
        raise error("half a file")

    assert scaled_image(load, 20) == Failure("unreadable: image: half a file")


def test_an_exception_fails_the_item_that_caused_it_alone():
    def ask(items):
        if 3 in items:
            raise KeyError("three\n is odd")
        return [str(item) for item in items]

    answers = ask_apart(ask, [1, 3, 5], closed=lambda: False)
    assert answers == ["1", Failure("unreadable: KeyError"), "5"]
    assert answers[1].hint == "'three\\n is odd'"
    with pytest.raises(KeyError):
        ask_apart(ask, [1, 3], closed=lambda: True)


def test_an_error_meant_for_the_user_ends_the_asking():
    def ask(items):
        raise MllmUnavailable("gone")

    with pytest.raises(MllmUnavailable):
        ask_apart(ask, [1, 2], closed=lambda: False)


def test_patience_ends_after_failures_in_a_row_and_each_kind_is_said_once():
    said = []
    patience = Patience("m", item="question", then="they wait", give_up_after=3, warn=said.append)
    for failure in (Failure("a"), Failure("a"), None, Failure("b", hint="why"), Failure("a"), Failure("b")):
        assert not patience.is_over
        patience.watch(failure)
    assert patience.is_over
    assert said == [
        "m: a",
        "m: b; why",
        "m is left alone for the rest of the run after 3 failed questions in a row (the last: b); they wait",
    ]


def test_patience_ends_at_once_with_a_hopeless_failure():
    said = []
    patience = Patience("m", item="image", then="x", give_up_after=9, warn=said.append)
    patience.watch(Failure("refused", hopeless=True))
    assert patience.is_over
    assert "after 1 failed image (the last: refused)" in said[1]
