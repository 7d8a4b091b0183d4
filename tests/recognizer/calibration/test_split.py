import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recognizer.calibration.split import COPY_COSINE, copy_groups, split_halves
from recognizer.calibration.terms import UNKNOWN
from tests.recognizer.worlds import unit


def slow_groups(hashes, vectors):
    """Flood fill over every pair."""
    groups = list(range(len(hashes)))
    changed = True
    while changed:
        changed = False
        for i in range(len(hashes)):
            for j in range(len(hashes)):
                copy = hashes[i] == hashes[j] or float(vectors[i] @ vectors[j]) > COPY_COSINE
                if copy and groups[i] != groups[j]:
                    groups[i] = groups[j] = min(groups[i], groups[j])
                    changed = True
    return groups


def same_partition(one, other):
    return all((one[i] == one[j]) == (other[i] == other[j]) for i in range(len(one)) for j in range(len(one)))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12))
def test_copies_are_found_through_other_copies(seed, count):
    rng = np.random.default_rng(seed)
    seeds = unit(rng, 3, 6)
    vectors = seeds[rng.integers(3, size=count)] + 0.05 * rng.normal(size=(count, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = [f"file {n}" for n in rng.integers(count, size=count)]
    assert same_partition(copy_groups(hashes, vectors), slow_groups(hashes, vectors))


def test_one_file_under_two_names_is_one_image():
    assert copy_groups(["a", "b", "a"], np.eye(3, dtype=np.float32)).tolist() == [0, 1, 0]


@given(
    groups=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    categories=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_halves_share_no_copies_and_take_out_other_categories(groups, categories, seed):
    groups = np.unique(groups, return_inverse=True)[1]
    rows = np.random.default_rng(seed).integers(-1, categories, len(groups))
    halves = split_halves(groups, rows, seed=seed)
    assert sorted([*halves.fit, *halves.report]) == list(range(len(groups)))
    assert not set(groups[halves.fit]) & set(groups[halves.report])
    assert abs(len(halves.fit) - len(halves.report)) <= np.bincount(groups).max()
    assert not set(halves.fit_out) & set(halves.report_out)
    for images, out in ((halves.fit, halves.fit_out), (halves.report, halves.report_out)):
        present = set(rows[images]) - {UNKNOWN}
        assert set(out) <= present
        assert len(out) <= 0.2 * len(present)
    assert halves.copies == len(groups) - len(set(groups))


def test_a_fifth_of_the_categories_is_taken_out_and_the_seed_chooses():
    rows = np.repeat(np.arange(50), 4)
    one, same, other = (split_halves(np.arange(200), rows, seed=seed) for seed in (0, 0, 1))
    assert len(one.fit_out) == int(0.2 * len(set(rows[one.fit])))
    assert len(one.report_out) == int(0.2 * len(set(rows[one.report])))
    np.testing.assert_array_equal(one.fit, same.fit)
    np.testing.assert_array_equal(one.fit_out, same.fit_out)
    assert one.fit.tolist() != other.fit.tolist()
