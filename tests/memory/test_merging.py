import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Category, Description
from memory.merging import SpooledCategories, merge_categories, sorted_by_id


@pytest.fixture
def few_are_held(monkeypatch):
    monkeypatch.setattr("memory.merging.HELD_CATEGORIES", 3)


def test_merging_joins_aliases_and_leaves_the_name_out():
    merged = merge_categories([Category("a", aliases=("b", "a")), Category("a", aliases=("c", "b"))])
    assert merged == [Category("a", aliases=("b", "c"))]


def test_merging_joins_what_is_distinct_and_keeps_the_first():
    merged = merge_categories(
        [
            Category("a", "g", (Description("x", source="1"),), {"k": "1"}, ("1.jpg",)),
            Category("b"),
            Category("a", "g", (Description("x", source="2"), Description("x", "sentence")), {"k": "2", "l": "3"}),
            Category("a", exemplars=("2.jpg", "2.jpg")),
            Category("a", "g", exemplars=("2.jpg", "1.jpg")),
        ]
    )
    assert merged == [
        Category(
            "a",
            "g",
            (Description("x", source="1"), Description("x", "sentence")),
            {"k": "1", "l": "3"},
            ("1.jpg", "2.jpg"),
        ),
        Category("b"),
        Category("a", exemplars=("2.jpg",)),
    ]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=3)
CATEGORIES = st.builds(
    Category,
    st.sampled_from("abcdefgh"),
    st.sampled_from(["", "g"]),
    st.lists(st.builds(Description, TEXTS, st.sampled_from(["attribute", "sentence"]), TEXTS), max_size=2).map(tuple),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
    st.lists(st.sampled_from(["1.jpg", "\udcff.jpg"]), max_size=2).map(tuple),
    st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
)


@given(st.lists(CATEGORIES, min_size=10, max_size=30))
def test_categories_on_the_disk_are_those_that_would_be_held(categories):
    held = merge_categories(categories)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memory.merging.HELD_CATEGORIES", 0)
        waiting = merge_categories(categories)
    assert isinstance(waiting, SpooledCategories)
    assert list(waiting) == held
    assert len(waiting) == len(held)
    assert waiting[-1] == held[-1]
    assert waiting[1:3] == held[1:3]
    assert list(waiting.sorted_by_id()) == sorted_by_id(held)


def test_many_categories_wait_on_the_disk_and_few_are_held(few_are_held):
    names = [str(number) for number in range(50)] * 3
    random.Random(0).shuffle(names)
    merged = merge_categories(iter([Category(name, descriptions=(Description(name),)) for name in names]))
    assert isinstance(merged, SpooledCategories)
    assert [category.name for category in merged] == list(dict.fromkeys(names))
    assert merge_categories(merged) is merged
    assert isinstance(merge_categories([Category("a"), Category("a"), Category("b")]), list)


def test_the_rows_of_one_category_are_merged_before_they_are_held(few_are_held):
    rows = (Category("a", descriptions=(Description(str(number)),)) for number in range(100))
    (category,) = merge_categories(rows)
    assert [each.text for each in category.descriptions] == [str(number) for number in range(100)]
