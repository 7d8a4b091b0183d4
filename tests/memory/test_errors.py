import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import LabelError
from memory.errors import printable, printable_path


@given(st.text(st.characters()), st.integers(1, 50))
def test_whatever_is_shown_is_printable_and_within_the_limit(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    shown.encode()
    if text.isprintable():
        assert shown == (text if len(text) <= limit else text[: limit - 1] + "…")


@pytest.mark.parametrize(
    ("text", "shown"), [("a\nb", r"a\nb"), ("\x1b[2J", r"\x1b[2J"), ("\ud800", r"\ud800"), ("é🦩", "é🦩"), ("", "")]
)
def test_control_codes_are_escaped_and_letters_are_not(text, shown):
    assert printable(text) == shown


def test_a_path_is_shown_whole():
    assert printable_path("/a\n" * 300) == r"/a\n" * 300


def test_a_label_error_says_file_place_and_remedy():
    error = LabelError("it is wrong", file="a\nb.txt", remedy="Mend it", line=3, where="$.x")
    assert str(error) == r"a\nb.txt, line 3, at $.x: it is wrong. Mend it."
    assert str(LabelError("it is wrong", file="a", remedy="Mend it")) == "a: it is wrong. Mend it."
