"""Which layout of a set is read, and what is said of others."""

import gc
import os
import pickle

import pytest

from recognizer.benchmark.bench import LayoutError
from recognizer.benchmark.data_sets import DATA_SETS, GRAIN_SETS, read_split
from tests.recognizer.benchmark.miniatures import MAKE, coop, eurosat, lines, mean_colour, sun, textures


def test_every_set_has_a_miniature_or_is_coops_alone():
    assert set(DATA_SETS) - set(MAKE) == {"UCF101"}
    assert len(GRAIN_SETS) == 11
    assert {"CUB", "Places365", "CIFAR100"} < set(GRAIN_SETS)
    assert not {"ImageNet", "EuroSAT", "FGVCAircraft"} & set(GRAIN_SETS)


def test_a_set_without_a_split_is_read_as_a_whole_or_by_coops_file(tmp_path):
    sun(tmp_path)
    whole = read_split("SUN397", tmp_path, "test")
    assert "whole set" in whole.note
    assert [item.key for item in whole.items] == sorted(item.key for item in whole.items)
    with pytest.raises(
        LayoutError, match=r"no training split; CoOp's split file has one; expected .*split_zhou_SUN397"
    ):
        read_split("SUN397", tmp_path, "train")
    coop(tmp_path, "sun397", "SUN397", "split_zhou_SUN397.json", ["abbey", "outdoor apartment building"])
    for part in ("train", "test"):
        split = read_split("SUN397", tmp_path, part)
        assert [item.key for item in split.items] == [f"sun397/SUN397/{label}/{part}.jpg" for label in range(2)]
        assert split.classes == ["abbey", "outdoor apartment building"]
        assert split.labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", [name for name, one in DATA_SETS.items() if one.coop])
def test_coops_layout_is_read_where_no_other_is_there(name, tmp_path):
    coop(tmp_path, *DATA_SETS[name].coop, ["first", "second"])
    split = read_split(name, tmp_path, "test", prefer="coop")
    assert [mean_colour(item.path).argmax() for item in split.items] == [0, 2]
    assert split.note == "CoOp's split"


def test_a_set_with_a_split_is_read_by_coops_file_only_where_that_is_preferred(tmp_path):
    textures(tmp_path)
    coop(tmp_path, *DATA_SETS["DTD"].coop, ["first", "second"])
    assert read_split("DTD", tmp_path, "test").classes == ["banded", "polka-dotted"]
    assert read_split("DTD", tmp_path, "test", prefer="coop").classes == ["first", "second"]


@pytest.mark.usefixtures("any_content")
def test_images_of_a_pickle_are_files_as_long_as_the_split(tmp_path):
    MAKE["CIFAR10"](tmp_path)
    split = read_split("CIFAR10", tmp_path, "test")
    paths = [item.path for item in split.items]
    assert all(map(os.path.exists, paths))
    del split
    gc.collect()
    assert not any(map(os.path.exists, paths))


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("Food101", lambda data: (data / "food-101").mkdir(), "expected food-101/images, meta or .* has nothing"),
        ("CIFAR10", lambda data: (data / "cifar-10-batches-py").mkdir(), "not found or corrupted.* has nothing"),
        ("Caltech101", lambda data: lines(data / "caltech101/x.txt", "a"), r"caltech101 has x\.txt"),
        ("ImageNet", lambda data: lines(data / "imagenet/val/tench/a.jpg", "a"), "tench is none of the 1,000 synsets"),
        ("ImageNetV2", lambda data: lines(data / "imagenetv2-matched-frequency-format-val/x/a.jpg", "a"), "expected"),
        ("UCF101", lambda data: lines(data / "ucf101/split_zhou_UCF101.json", '{"train": []}'), "'test'"),
        ("UCF101", lambda data: lines(data / "ucf101/split_zhou_UCF101.json", "[]"), "expected ucf101/UCF-101"),
    ],
)
def test_another_layout_is_refused_with_what_is_expected_and_what_is_there(name, spoil, said, tmp_path):
    spoil(tmp_path)
    with pytest.raises(LayoutError, match=said):
        read_split(name, tmp_path, "test")


def test_classes_of_coops_file_are_numbered_without_a_gap(tmp_path):
    eurosat(tmp_path)
    rows = '[["a.jpg", 0, "a"], ["b.jpg", 2, "b"]]'
    lines(tmp_path / "eurosat/split_zhou_EuroSAT.json", f'{{"train": {rows}, "test": {rows}}}')
    with pytest.raises(LayoutError, match="not numbered from 0"):
        read_split("EuroSAT", tmp_path, "test")


@pytest.mark.usefixtures("any_content")
def test_a_damaged_pickle_is_refused(tmp_path):
    MAKE["CIFAR100"](tmp_path)
    (tmp_path / "cifar-100-python" / "test").write_bytes(pickle.dumps([1])[:-3])
    with pytest.raises(LayoutError, match="CIFAR100 cannot be read"):
        read_split("CIFAR100", tmp_path, "test")
