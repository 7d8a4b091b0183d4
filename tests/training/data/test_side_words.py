import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.side_words import names_place, swap_sides


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("a dog on the left, a cat on the right", "a dog on the right, a cat on the left"),
        ("Leftmost LEFT-HAND corner", "Rightmost RIGHT-HAND corner"),
        ("bright and upright, with leftovers", "bright and upright, with leftovers"),
        ("top left corner", "top right corner"),
        ("its left wing", "its right wing"),
        ("left behind", None),
        ("she left the room", None),
        ("the right way to a right angle", None),
        ("human rights on the left", None),
        ("a left-handed guitar", None),
        ("running clockwise", None),
        ("right of way", None),
        ("", ""),
    ],
)
def test_left_and_right_are_swapped_where_that_is_safe(text, swapped):
    assert swap_sides(text) == swapped


SIDES = ["left", "Right", "LEFTMOST", "right-hand", "rightward", "leftmoſt", "left."]


WORDS = st.sampled_from([*SIDES, "the", "on", "side", "of", "top", "corner", "wing", "dog,", "at", "İ"])


@given(st.lists(WORDS, max_size=8).map(" ".join))
def test_swapping_twice_gives_the_text_back(text):
    swapped = swap_sides(text)
    assert swapped is None or swap_sides(swapped) == text


def test_what_names_a_place():
    assert names_place("the cat in the Centre")
    assert names_place("cat, top left")
    assert not names_place("a bright laptop")
