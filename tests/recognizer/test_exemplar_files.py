import shutil

import numpy as np
import pytest

from memory import Category, Memory
from memory.errors import UnknownCategory
from recognizer import Recognizer, exemplar_files, exemplars
from recognizer.building import build_memory
from recognizer.exemplar_files import add_exemplars, exemplar_images, remove_exemplars, warnings_about
from recognizer.exemplars import store_head
from recognizer.heads.constants import ALONE

NAMES = ("cat", "coffee", "rocket")


@pytest.fixture
def shots(photos, tmp_path):
    """One photo for each name but the last, beside a folder for more."""
    for label in NAMES[:2]:
        (tmp_path / "set" / label).mkdir(parents=True)
        shutil.copy(photos / f"{label}.jpg", tmp_path / "set" / label / "1.jpg")
    return tmp_path / "set"


def build(starter, tmp_path, exemplars=None, **options):
    categories = [Category(name) for name in NAMES]
    return build_memory(categories, tmp_path / "m", encoder=starter, exemplars=exemplars, **options)


@pytest.fixture
def encoded(monkeypatch):
    """The keys of the images that were encoded."""
    keys, encode = [], exemplar_files.encode_labelled

    def noted(encoder, items, *others, **options):
        keys.extend(item.key for item in items)
        return encode(encoder, items, *others, **options)

    monkeypatch.setattr(exemplar_files, "encode_labelled", noted)
    return keys


def test_exemplars_are_those_of_the_folder_else_those_of_the_label_file(photos, tmp_path):
    (tmp_path / "set" / "dog").mkdir(parents=True)
    shutil.copy(photos / "cat.jpg", tmp_path / "set" / "dog" / "1.jpg")
    categories = [Category("cat", exemplars=(str(photos / "cat.jpg"),)), Category("dog")]
    assert exemplar_images(categories, tmp_path / "set").rows == [1]
    named = exemplar_images(categories, None)
    assert (named.rows, named.items[0].key) == ([0], str(photos / "cat.jpg"))
    assert exemplar_images([Category("cat")], None) is None


def test_an_image_is_encoded_once_also_when_the_memory_is_built_again(starter, shots, photos, tmp_path, encoded):
    before = build(starter, tmp_path, shots).vectors
    shutil.copy(photos / "rocket.jpg", shots / "cat" / "2.jpg")
    shutil.copy(photos / "cat.jpg", shots / "cat" / "copy.jpg")  # counts once
    encoded.clear()
    after = build(starter, tmp_path, shots).vectors
    assert encoded == ["cat/2.jpg"]
    assert sorted(after.exemplar_references) == ["cat/1.jpg", "cat/2.jpg", "coffee/1.jpg"]
    for digest, vector in zip(before.exemplar_hashes, before.exemplars, strict=True):
        assert np.array_equal(after.exemplars[after.exemplar_hashes.index(digest)], vector)


def test_exemplars_are_added_and_removed_alone(starter, shots, photos, tmp_path, encoded):
    memory = build(starter, tmp_path, shots)
    (tmp_path / "more" / "rocket").mkdir(parents=True)
    (tmp_path / "more" / "nobody").mkdir()
    shutil.copy(photos / "rocket.jpg", tmp_path / "more" / "rocket")
    shutil.copy(photos / "rocket.jpg", tmp_path / "more" / "nobody")
    encoded.clear()
    read = add_exemplars(memory, starter, tmp_path / "more")
    assert (encoded, read.encoded) == (["rocket/rocket.jpg"], 1)
    assert any("'nobody' is not a category" in problem for problem in read.problems)
    again = add_exemplars(memory, starter, tmp_path / "more")
    assert (again.encoded, len(memory.vectors.exemplars)) == (0, 3)
    opened = Memory.open(tmp_path / "m")
    assert all(finding.ok for finding in opened.verify())
    with pytest.raises(UnknownCategory, match="'dog' is neither an exemplar"):
        remove_exemplars(opened, ["dog", "cat"])
    assert remove_exemplars(opened, ["cat/1.jpg", "rocket"]) == 2
    assert opened.vectors.exemplar_references == ["coffee/1.jpg"]
    assert remove_exemplars(opened, ["coffee"]) == 1
    assert (len(opened.vectors.exemplars), opened.settings) == (0, {})
    assert all(finding.ok for finding in Memory.open(tmp_path / "m").verify())


def test_another_image_of_the_same_path_has_a_reference_of_its_own(starter, shots, photos, tmp_path):
    memory = build(starter, tmp_path, shots)
    (tmp_path / "more" / "cat").mkdir(parents=True)
    shutil.copy(photos / "rocket.jpg", tmp_path / "more" / "cat" / "1.jpg")
    add_exemplars(memory, starter, tmp_path / "more")
    other = f"{tmp_path / 'more'}/cat/1.jpg"
    assert sorted(memory.vectors.exemplar_references) == sorted([other, "cat/1.jpg", "coffee/1.jpg"])
    assert remove_exemplars(memory, [other]) == 1
    assert memory.vectors.exemplar_references == ["cat/1.jpg", "coffee/1.jpg"]


def test_equal_images_of_two_categories_are_named(starter, shots, photos, tmp_path):
    shutil.copy(photos / "cat.jpg", shots / "coffee" / "2.jpg")
    warnings = []
    memory = build(starter, tmp_path, shots, warn=warnings.append)
    assert warnings == ["equal images of different categories: cat/1.jpg, coffee/2.jpg"]
    assert warnings_about(memory.vectors) == warnings


def test_weights_of_an_earlier_release_give_way_to_the_head(starter, shots, tmp_path):
    memory = build(starter, tmp_path, shots)
    memory.store_settings({"score": {"image_name": 0.192, "exemplar": 0.04}, "rerank": "always"})
    store_head(memory)
    head = {"head": "proker", "head_beta": 3.0, "head_ridge": 0.3}
    assert Memory.open(tmp_path / "m").settings == {"score": head, "rerank": "always"}


def test_constants_that_the_memory_has_are_not_chosen_again(starter, shots, tmp_path, monkeypatch):
    memory = build(starter, tmp_path, shots)
    monkeypatch.setattr(exemplars, "choose_constants", None)
    head = Recognizer(starter, Memory.open(tmp_path / "m")).scorer.head
    assert head.constants == ALONE
    assert memory.settings["score"]["head_beta"] == ALONE.beta
