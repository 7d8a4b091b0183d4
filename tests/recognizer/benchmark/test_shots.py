import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recognizer.benchmark.shots import draw_shots, halves, short_classes

LABELS = st.lists(st.integers(0, 4), max_size=30).map(lambda labels: np.array(labels, np.int64))
SEEDS = st.none() | st.integers(0, 3)


@given(LABELS, st.integers(0, 5), SEEDS)
def test_each_class_gives_so_many_shots_or_all_it_has(labels, count, seed):
    drawn = draw_shots(labels, count, seed=seed)
    assert list(drawn) == sorted(set(drawn.tolist()))
    for label in set(labels.tolist()):
        assert (labels[drawn] == label).sum() == min(count, (labels == label).sum())
    assert set(drawn.tolist()) <= set(draw_shots(labels, count + 1, seed=seed).tolist())


def test_without_a_seed_the_first_in_file_order_are_taken_and_seeds_differ():
    labels = np.array([1, 0, 1, 0, 1, 0, 0, 1])
    assert draw_shots(labels, 2, seed=None).tolist() == [0, 1, 2, 3]
    assert len({tuple(draw_shots(labels, 2, seed=seed)) for seed in range(5)}) > 1


@given(LABELS, SEEDS)
def test_half_of_each_class_tests_the_larger_one_where_it_is_odd(labels, seed):
    shots, tests = halves(labels, seed=seed)
    assert sorted([*shots, *tests]) == list(range(len(labels)))
    for label in set(labels.tolist()):
        assert (labels[shots] == label).sum() == (labels == label).sum() // 2


def test_classes_with_fewer_images_than_shots_are_named():
    labels = np.array([0, 0, 2, 2, 2])
    assert short_classes(labels, 3, ["owl", "gull", "tern"]) == {"owl": 2, "gull": 0}
    assert short_classes(labels, 0, ["owl", "gull", "tern"]) == {}
