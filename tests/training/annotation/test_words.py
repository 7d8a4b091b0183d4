from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.annotation.words import LONGEST_WORDS, clean, clean_all, shorten, word_overlap


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("- Long curved  beak.", "Long curved beak"),
        ("* “red tail”;", "red tail"),
        ("3) white\nwing", "white wing"),
        ("12. spots", "spots"),
        ("3 white stripes", "3 white stripes"),
        ("t-shirt", "t-shirt"),
        (" .,-; ", "-"),
        ("red \ud800tail", "red tail"),
    ],
)
def test_a_description_loses_what_models_put_around_it(written, text):
    assert clean(written) == text


def test_empty_long_and_repeated_descriptions_are_left_out_and_counted():
    counts = Counter()
    long = " ".join(["word"] * (LONGEST_WORDS + 1))
    assert clean_all(["Red tail", "", "...", "the beak", "the red  tail.", long], counts) == ["Red tail", "the beak"]
    assert counts == {
        "description without words": 2,
        "repeated description": 1,
        f"description of more than {LONGEST_WORDS} words": 1,
    }


@pytest.mark.parametrize(
    ("text", "words", "short"),
    [
        ("long curved beak", 3, "long curved beak"),
        ("long curved beak of a yellow bird", 5, "long curved beak"),
        ("a beak, long and curved, with a red tip", 6, "a beak, long and curved"),
        ("very long and very strangely curved beak", 5, "very long and very strangely"),
        ("feathers on the head of the bird", 3, "feathers"),
        ("small dark spots the colour of old copper", 4, "small dark spots"),
        ("one", 0, "one"),
        ("one two", 0, "one"),
    ],
)
def test_a_text_is_shortened_at_a_phrase(text, words, short):
    assert shorten(text, lambda each: len(each.split()) <= words) == short


@given(
    st.lists(st.sampled_from(["a", "the", "with", "red,", "long", "beak;"]), min_size=1, max_size=12),
    st.integers(1, 12),
)
def test_a_shortened_text_fits_and_is_a_beginning(words, most):
    text = clean(" ".join(words))
    short = shorten(text, lambda each: len(each.split()) <= most)
    assert text.startswith(short)
    assert len(short.split()) <= most
    assert short or not text


def test_overlap_is_the_share_of_common_words():
    assert word_overlap("long curved beak", "The beak, LONG") == 0.5
    assert word_overlap("red", "blue") == 0
    assert word_overlap("", "") == word_overlap("Red-tailed", "red-tailed") == 1
