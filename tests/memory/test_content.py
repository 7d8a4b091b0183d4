from hypothesis import given
from hypothesis import strategies as st

from memory import Category, Description
from memory.content import content_after, content_of
from tests.memory.building import exemplar_set

CATEGORIES = [Category("a"), Category("b", descriptions=(Description("x"),)), Category("b", "g")]
OTHERS = [
    Category("a", "g"),
    Category("a", aliases=("c",)),
    Category("a", metadata={"b": "c"}),
    Category("a", descriptions=(Description("x"),)),
    Category("a", descriptions=(Description("x", source="s"),)),
    Category("a", descriptions=(Description("x a", "sentence"),)),
    Category("a", descriptions=(Description("x"), Description("y"))),
    Category("a", descriptions=(Description("y"), Description("x"))),
]


def test_every_part_of_a_category_counts_and_their_order_does_not():
    hashes = [content_of([other], None, None)["categories"] for other in [Category("a"), *OTHERS]]
    assert len(set(hashes)) == len(hashes)
    assert content_of(CATEGORIES, None, None) == content_of(CATEGORIES[::-1], None, None)


@given(st.sets(st.sampled_from(OTHERS), min_size=1), st.sets(st.sampled_from(OTHERS)))
def test_edits_give_the_hash_of_what_is_left(before, added):
    after = content_after(content_of(before, None, None), added - before, before - added, None)
    assert after == content_of(added, None, None)
    assert content_after({}, added, (), None) == {}


def test_exemplars_count():
    hashes = [content_of(CATEGORIES, exemplar_set(CATEGORIES, 1, seed), None)["exemplars"] for seed in (0, 1)]
    assert len({"", *hashes}) == 3
