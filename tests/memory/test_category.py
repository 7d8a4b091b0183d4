import pytest

from memory import Category, Description


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
