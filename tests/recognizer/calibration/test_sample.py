import shutil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from memory import Category, Memory
from recognizer import Recognizer
from recognizer.building import build_memory
from recognizer.calibration.sample import COPY_COSINE, copy_groups, measure_sample, split_halves
from recognizer.calibration.terms import UNKNOWN
from recognizer.evaluation.labelled import read_labelled
from recognizer.images import ImageItem
from recognizer.settings import load_settings
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


def test_no_category_is_taken_out_in_both_halves():
    items, rows = [ImageItem(b"", b"")] * 200, np.arange(200) % 10
    for seed in range(20):
        fit, report = split_halves(np.arange(200), items, rows, seed=seed)
        assert len(fit.taken_out) == len(report.taken_out) == 2
        assert not {*fit.taken_out} & {*report.taken_out}


@given(
    groups=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    categories=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_halves_share_no_copies_and_take_out_other_categories(groups, categories, seed):
    groups = np.unique(groups, return_inverse=True)[1]
    rows = np.random.default_rng(seed).integers(-1, categories, len(groups))
    items = [ImageItem(str(number).encode(), b"") for number in range(len(groups))]
    fit, report = split_halves(groups, items, rows, seed=seed)
    assert sorted([*fit.images, *report.images]) == list(range(len(groups)))
    assert not set(groups[fit.images]) & set(groups[report.images])
    assert abs(len(fit.images) - len(report.images)) <= np.bincount(groups).max()
    assert not set(fit.taken_out) & set(report.taken_out)
    for split in (fit, report):
        assert (np.diff(split.images) > 0).all()
        assert split.items == [items[number] for number in split.images]
        np.testing.assert_array_equal(split.rows, rows[split.images])
        assert split.unknown == sum(row == UNKNOWN or row in split.taken_out for row in split.rows)
        present = set(split.rows) - {UNKNOWN}
        assert set(split.taken_out) <= present
        assert len(split.taken_out) <= 0.2 * len(present)


def test_a_fifth_of_the_categories_is_taken_out_and_the_seed_chooses():
    rows = np.repeat(np.arange(50), 4)
    items = [ImageItem(b"", b"")] * 200
    one, same, other = (split_halves(np.arange(200), items, rows, seed=seed) for seed in (0, 0, 1))
    for split in one:
        assert len(split.taken_out) == int(0.2 * len(set(split.rows)))
    np.testing.assert_array_equal(one[0].images, same[0].images)
    np.testing.assert_array_equal(one[0].taken_out, same[0].taken_out)
    assert one[0].images.tolist() != other[0].images.tolist()


def test_images_are_measured_as_a_run_scores_them(demo_recognizer, photos, tmp_path):
    for label, name in (("tabby cat", "cat"), ("Cup_of_Coffee", "coffee"), ("dragon", "rocket")):
        (tmp_path / label).mkdir()
        shutil.copy(photos / f"{name}.jpg", tmp_path / label / "1.jpg")
    (tmp_path / "dragon" / "0.jpg").write_bytes(b"x")
    done = []
    sample = measure_sample(demo_recognizer, read_labelled(tmp_path), progress=done.append)
    names = [category.name for category in demo_recognizer.memory.vectors.categories]
    labels = {item.key_bytes.decode(): row for item, row in zip(sample.items, sample.rows, strict=True)}
    assert labels == {
        "Cup_of_Coffee/1.jpg": names.index("cup of coffee"),
        "dragon/1.jpg": UNKNOWN,
        "tabby cat/1.jpg": names.index("tabby cat"),
    }
    assert sample.failed == {"E_NOT_IMAGE": 1}
    assert sample.unmatched == {"dragon": 2}
    assert sum(done) == 4
    images = [Image.open(tmp_path / item.key_bytes.decode()).convert("RGB") for item in sample.items]
    features = demo_recognizer.encoder.encode_images(images)
    weights = np.array(demo_recognizer.settings.score.weights())
    np.testing.assert_allclose(sample.table.values @ weights, demo_recognizer.scorer.score(features), atol=1e-3)
    assert sample.table.true_categories().tolist() == sample.rows.tolist()


def test_exemplar_that_is_the_image_itself_does_not_answer_for_it(starter, photos, tmp_path):
    for label in ("cat", "coffee", "rocket"):
        (tmp_path / "set" / label).mkdir(parents=True)
        shutil.copy(photos / f"{label}.jpg", tmp_path / "set" / label / "1.jpg")
    categories = [Category(name) for name in ("cat", "coffee", "rocket")]
    build_memory(categories, tmp_path / "m", encoder=starter, exemplars=tmp_path / "set")
    sample = measure_sample(Recognizer(starter, Memory.open(tmp_path / "m")), read_labelled(tmp_path / "set"))
    off = ["score.head=off"]
    plain = Recognizer(starter, Memory.open(tmp_path / "m"), settings=load_settings(overrides=off))
    exemplar = sample.table.values - measure_sample(plain, read_labelled(tmp_path / "set")).table.values
    assert (exemplar[range(3), sample.rows] <= 1e-6).all()  # the others at most speak against it
    np.testing.assert_allclose(exemplar, exemplar[:, :, :1].repeat(4, 2), atol=1e-6)
    assert (exemplar > 0.01).any()
