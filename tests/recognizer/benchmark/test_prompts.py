"""CLIP's templates."""

from memory.templates import fill_template
from recognizer.benchmark.data_sets import DATA_SETS


def test_templates_are_as_many_as_clips_and_have_a_place_for_the_name():
    counts = {name: len(one.templates) for name, one in DATA_SETS.items() if one.templates is not None}
    assert counts == {
        "CIFAR10": 18,
        "CIFAR100": 18,
        "SUN397": 2,
        "StanfordCars": 8,
        "DTD": 8,
        "OxfordPets": 1,
        "Caltech101": 34,
        "Flowers102": 1,
        "CUB": 1,
        "Places365": 2,
        "Food101": 1,
        "FGVCAircraft": 2,
        "EuroSAT": 3,
        "UCF101": 1,
    }
    for one in DATA_SETS.values():
        texts = [fill_template(template, "heron") for template in one.templates or ()]
        assert len(set(texts)) == len(texts)
        assert all("heron" in text and "%" not in text for text in texts)
    assert "a photo of the big {}." in DATA_SETS["CIFAR10"].templates
    assert "the {} in a video game." in DATA_SETS["Caltech101"].templates
