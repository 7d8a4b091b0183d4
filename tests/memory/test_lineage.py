import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Category
from memory.lineage import join_levels, levels


@pytest.mark.parametrize(
    ("group", "parts"),
    [
        ("", ()),
        ("birds", ("birds",)),
        ("animal > bird", ("animal", "bird")),
        ("animal  >\tbird >  owl ", ("animal", "bird", "owl")),
        ("animal > > owl", ("animal", "owl")),
        ("> animal > owl >", ("animal", "owl")),
        ("A>B", ("A>B",)),
        ("A>B > C", ("A>B", "C")),
        ("> 100", ("> 100",)),
        (">", (">",)),
        ("x -> y", ("x -> y",)),
    ],
)
def test_levels_are_parted_by_a_sign_with_blanks(group, parts):
    assert levels(group) == parts


@given(st.lists(st.text("ab>- ", min_size=1).filter(lambda part: levels(f"x > {part} > x") == ("x", part, "x"))))
def test_levels_that_were_joined_come_back(parts):
    assert levels(join_levels(parts)) == tuple(parts) or len(parts) < 2


def test_the_path_of_a_category_ends_in_its_name_once():
    assert Category("owl").path == ("owl",)
    assert Category("owl", "animal > bird").path == ("animal", "bird", "owl")
    assert Category("owl", "animal > owl").path == ("animal", "owl")
    assert Category("a > b", "c").path == ("c", "a > b")
