import os

import numpy as np
import pytest
from PIL import Image

from recognizer.benchmark.bench import LayoutError
from recognizer.benchmark.data_sets import DATA_SETS
from recognizer.benchmark.labelled_data import read_data
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledSetError
from tests.recognizer.benchmark.miniatures import coop, sun
from tests.recognizer.benchmark.seeing import pictures


def named(data, images):
    """The class and the file of each image."""
    files = [os.path.basename(data.items[image].path).decode() for image in images]
    return sorted(zip((data.classes[label] for label in data.labels[images]), files, strict=True))


def test_train_and_test_are_told_apart_as_folders_and_as_tables(tmp_path):
    pictures(tmp_path / "train", {"owl": ["a"], "gull": ["b"]})
    pictures(tmp_path / "test", {"owl": ["c"], "tern": ["d"]})
    (data,) = read_data(tmp_path)
    assert data.classes == ["gull", "owl", "tern"]
    pool, tests = data.divided(0)
    assert named(data, pool) == [("gull", "b0.png"), ("owl", "a0.png")]
    assert named(data, tests) == [("owl", "c0.png"), ("tern", "d0.png")]
    assert data.tests.tolist() == tests.tolist()

    tables = tmp_path / "tables"
    tables.mkdir()
    for part, row in (("train", "../train/owl/a0.png,owl"), ("test", "../test/tern/d0.png,tern")):
        (tables / f"{part}.csv").write_text(f"path,label\n{row}\n")
    (data,) = read_data(tables)
    assert named(data, data.tests) == [("tern", "d0.png")]


def test_a_folder_of_labels_and_a_table_have_no_test_set(tmp_path):
    pictures(tmp_path / "set", {"owl": ["a", "b", "c"], "gull": ["d"]})
    (data,) = read_data(tmp_path / "set")
    assert (data.name, data.is_test, len(data.tests)) == ("set", None, 4)
    for seed in (None, 0):
        pool, tests = data.divided(seed)
        assert [data.classes[label] for label in data.labels[pool]] == ["owl"]
        assert sorted([*pool, *tests]) == [0, 1, 2, 3]
    (tmp_path / "few.csv").write_text("path,label\nset/owl/a0.png,owl\n")
    (data,) = read_data(tmp_path / "few.csv")
    assert (data.name, data.classes) == ("few", ["owl"])


def test_usual_data_sets_have_their_prompts_and_their_split_or_none(tmp_path):
    coop(tmp_path, *DATA_SETS["DTD"].coop, ["first", "second"])
    sun(tmp_path)
    found = {data.name: data for data in read_data(tmp_path)}
    assert set(found) == {"DTD", "SUN397"}
    textures, scenes = found["DTD"], found["SUN397"]
    assert textures.templates == DATA_SETS["DTD"].templates
    pool, tests = textures.divided(0)
    assert (len(pool), len(tests)) == (2, 2)
    assert scenes.is_test is None  # torchvision knows no split of it
    (without,) = (data for data in read_data(tmp_path, with_training=False) if data.name == "DTD")
    assert without.tests.tolist() == [0, 1]


def test_sets_are_chosen_by_name_and_one_that_is_missing_or_unknown_is_said(tmp_path):
    coop(tmp_path, *DATA_SETS["DTD"].coop, ["first", "second"])
    sun(tmp_path)
    assert [data.name for data in read_data(tmp_path, sets=["SUN397"])] == ["SUN397"]
    assert [data.name for data in read_data(tmp_path, sets=["SUN397", "DTD"])] == ["SUN397", "DTD"]
    with pytest.raises(LayoutError, match=r"Food101 is not there: expected food-101/images, meta or .* has SUN397/"):
        list(read_data(tmp_path, sets=["Food101"]))
    with pytest.raises(RecognizerError, match="no data set 'Food'; there are CIFAR10, "):
        list(read_data(tmp_path, sets=["DTD", "Food"]))


def test_another_layout_is_refused_with_what_is_expected_and_there(tmp_path):
    with pytest.raises(LayoutError, match=r"LABEL/IMAGE; .* it has nothing"):
        list(read_data(tmp_path))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "lone.png")
    with pytest.raises(LayoutError, match=r"it has lone\.png"):
        list(read_data(tmp_path))
    with pytest.raises(LayoutError, match="not a folder"):
        list(read_data(tmp_path / "missing"))
    (tmp_path / "sub").mkdir()
    with pytest.raises(LabelledSetError, match="no images in sub-folders"):
        list(read_data(tmp_path))
