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
    texts = BuildTexts(categories, ["a {}.", "{}"], CARD)
    ((own, names),) = texts.names()
    ((rows, grounded, bare),) = texts.descriptions()
    words = [category.name for category in own]
    assert own == texts.categories == sorted(categories, key=lambda category: category.id)
    assert names.texts == [(f"a {word}.", word) for word in words]
    assert [(category.name, number) for category, number, _ in rows] == [(w, n) for w in words for n in range(2)]
    assert bare.texts == [(f"{word} {place}",) for word in words for place in ("two", "one")]
    assert grounded.texts[0] == (f"a {words[0]}, {words[0]} two.", f"{words[0]}, {words[0]} two")
    for groups in texts.groups():
        assert groups.keys.tolist() == [key(*group) for group in groups.texts]
        assert groups.single_keys(CARD).tolist() == [key(text) for group in groups.texts for text in group]


def test_parts_of_many_rows_are_those_of_few(monkeypatch):
    categories = [Category(str(n), descriptions=tuple(map(Description, "abc"[: n % 4]))) for n in range(20)]
    texts = BuildTexts(categories, ["{}"], CARD, ["emu"])
    whole = [(text, own) for groups in texts.groups() for text, own in zip(groups.texts, groups.keys, strict=True)]
    monkeypatch.setattr("memory.texts.BATCH_ROWS", 4)
    assert max(len(groups.texts) for groups in texts.groups()) == 4
    parts = [(text, own) for groups in texts.groups() for text, own in zip(groups.texts, groups.keys, strict=True)]
    assert sorted(parts) == sorted(whole)
    assert parts[-1] == (("emu",), key("emu"))


def test_aliases_add_texts_to_the_name_and_to_nothing_else():
    description = (Description("red"),)
    ((_, plain),) = BuildTexts([Category("fox", descriptions=description)], ["a {}.", "{}"], CARD).names()
    texts = BuildTexts([Category("fox", descriptions=description, aliases=("red_fox",))], ["a {}.", "{}"], CARD)
    ((_, names),) = texts.names()
    ((_, grounded, bare),) = texts.descriptions()
    assert plain.texts == [("a fox.", "fox")]
    assert names.texts == [("a fox.", "fox", "a red fox.", "red fox")]
    assert names.keys[0] == key("a fox.", "fox", "a red fox.", "red fox")
    assert grounded.texts == [("a fox, red.", "fox, red")]
    assert bare.texts == [("red",)]


@given(st.lists(st.integers(0, 50), unique=True), st.lists(st.integers(0, 60)), st.randoms())
def test_lookup_finds_positions_as_a_dictionary_does(numbers, wanted, random):
    random.shuffle(numbers)
    keys = np.array([b"%016d" % n for n in numbers], f"S{KEY_BYTES}")
    positions = lookup(keys, np.argsort(keys), np.array([b"%016d" % n for n in wanted], f"S{KEY_BYTES}"))
    places = {number: place for place, number in enumerate(numbers)}
    assert positions.tolist() == [places.get(number, -1) for number in wanted]
