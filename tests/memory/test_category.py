import pytest

from memory import Category, Description
from memory.category import merge_categories


def test_ids_depend_on_name_and_group_alone():
    assert Category("crane", "bird", (Description("legs"),)).id == Category("crane", "bird").id
    assert len({Category("crane", "bird").id, Category("crane").id, Category("bird", "crane").id}) == 3
    assert len(Category("crane").id) == 16


def test_categories_that_cannot_be_stored_are_refused():
    for name in ("", "a\0b", "\ud800"):
        with pytest.raises(ValueError, match="name"):
            Category(name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Description(""), "the description is empty"),
        (lambda: Description("x", "noun"), "kind 'noun' is neither"),
        (lambda: Description("x", source="\0"), "source .* NUL"),
        (lambda: Category("x", "\ud800"), "group .* lone surrogate"),
        (lambda: Category("x", metadata={"k": "\0"}), "metadata value .* NUL"),
        (lambda: Category("x", metadata={"\0": "v"}), "metadata key .* NUL"),
        (lambda: Category(7), "name 7 is not a text"),
        (lambda: Category("x", aliases=("",)), "the alias is empty"),
    ],
)
def test_bad_texts_are_refused_wherever_they_are(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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
