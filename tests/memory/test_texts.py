import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory import Category, Description
from memory.texts import KEY_BYTES, BuildTexts, lookup, text_keys
from tests.memory.fake_encoder import FakeEncoder

CARD = FakeEncoder().card


def key(*texts, card=CARD):
    return text_keys([texts], card)[0]


def test_keys_depend_on_encoder_precision_and_every_text():
    others = [
        key("a", "b", card=FakeEncoder(precision="bf16").card),
        key("a", "b", card=FakeEncoder(name="other").card),
        key("ab"),
        key("b", "a"),
        key("a", "b", ""),
        key("a", "b"),
    ]
    assert len(set(others)) == len(others)
    assert key("a", "b") == others[-1]


def test_texts_are_sorted_by_category_id_and_keep_the_order_of_descriptions():
    categories = [
        Category(name, descriptions=(Description(f"{name} two"), Description(f"{name} one"))) for name in "dcba"
    ]
    texts = BuildTexts.make(categories, ["a {}.", "{}"], CARD)
    assert [c.id for c in texts.categories] == sorted(c.id for c in categories)
    names = [c.name for c in texts.categories]
    assert texts.names.texts == [(f"a {name}.", name) for name in names]
    assert texts.bare.texts == [(f"{name} {word}",) for name in names for word in ("two", "one")]
    assert texts.grounded.texts[0] == (f"a {names[0]}, {names[0]} two.", f"{names[0]}, {names[0]} two")
    for groups in texts.groups:
        assert len(groups.keys) == len(groups.texts)


def test_aliases_add_texts_to_the_name_and_to_nothing_else():
    description = (Description("red"),)
    (plain,) = BuildTexts.make([Category("fox", descriptions=description)], ["a {}.", "{}"], CARD).names.texts
    texts = BuildTexts.make([Category("fox", descriptions=description, aliases=("red_fox",))], ["a {}.", "{}"], CARD)
    assert plain == ("a fox.", "fox")
    assert texts.names.texts == [("a fox.", "fox", "a red fox.", "red fox")]
    assert texts.names.keys[0] == key("a fox.", "fox", "a red fox.", "red fox")
    assert texts.grounded.texts == [("a fox, red.", "fox, red")]
    assert texts.bare.texts == [("red",)]


@given(st.lists(st.integers(0, 50), unique=True), st.lists(st.integers(0, 60)), st.randoms())
def test_lookup_finds_positions_as_a_dictionary_does(numbers, wanted, random):
    random.shuffle(numbers)
    keys = np.array([b"%016d" % n for n in numbers], f"S{KEY_BYTES}")
    positions = lookup(keys, np.argsort(keys), np.array([b"%016d" % n for n in wanted], f"S{KEY_BYTES}"))
    places = {number: place for place, number in enumerate(numbers)}
    assert positions.tolist() == [places.get(number, -1) for number in wanted]
