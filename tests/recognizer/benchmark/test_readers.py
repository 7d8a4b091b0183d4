"""Each layout is read from a miniature copy: names, images and the class of each."""

from collections import Counter

import numpy as np
import pytest

from memory.templates import prompt_name
from recognizer.benchmark.data_sets import read_split
from tests.recognizer.benchmark.miniatures import COLOURS, MAKE, birds, food, mean_colour

# Names of the classes as prompts have them, and how many images of each there are to test.
NAMES = {
    "CIFAR10": {"airplane": 1, "bird": 2},
    "CIFAR100": {"apple": 1, "aquarium fish": 2},
    "SUN397": {"abbey": 2, "apartment building outdoor": 2},
    "StanfordCars": {"AM General Hummer SUV 2000": 2, "Acura RL Sedan 2012": 1},
    "DTD": {"banded": 1, "polka-dotted": 1},
    "OxfordPets": {"Abyssinian": 1, "American Bulldog": 1},
    "Caltech101": {"centered face": 2, "ceiling fan": 2},
    "Flowers102": {"pink primrose": 1, "hard-leaved pocket orchid": 1},
    "CUB": {"Black footed Albatross": 1, "Laysan Albatross": 1},
    "Places365": {"airfield": 1, "apartment building outdoor": 1},
    "Food101": {"apple pie": 2, "waffles": 2},
    "FGVCAircraft": {"707-320": 1, "A320": 1},
    "EuroSAT": {"annual crop land": 2, "lake or sea": 2},
    "ImageNet": {"goldfish": 1, "great white shark": 1},
    "ImageNetV2": {"great white shark": 1, "brambling": 1},
}


@pytest.mark.usefixtures("any_content")
@pytest.mark.parametrize("name", sorted(MAKE))
def test_each_layout_gives_the_names_and_the_class_of_each_image(name, tmp_path):
    assert read_split(name, tmp_path, "test") is None
    assert list(tmp_path.iterdir()) == []
    MAKE[name](tmp_path)
    split = read_split(name, tmp_path, "test")
    named = [prompt_name(split.classes[label]) for label in split.labels]
    assert Counter(named) == NAMES[name]
    first = {label: at for at, label in enumerate(NAMES[name])}
    for item, label in zip(split.items, named, strict=True):
        assert np.abs(mean_colour(item.path) - COLOURS[first[label]]).max() < 20
    assert len({item.key for item in split.items}) == len(split.items)


def test_the_training_split_has_other_images(tmp_path):
    food(tmp_path)
    birds(tmp_path)
    for name in ("Food101", "CUB"):
        keys = [{item.key for item in read_split(name, tmp_path, part).items} for part in ("train", "test")]
        assert keys[0]
        assert not keys[0] & keys[1]
