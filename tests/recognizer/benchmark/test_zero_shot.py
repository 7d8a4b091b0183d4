"""Zero-shot figures on miniature data sets, by an encoder that sees colours and reads the words for them."""

import json

import numpy as np
import pytest
import torch

from recognizer.benchmark.bench import Bench, LayoutError
from recognizer.benchmark.data_sets import DATA_SETS, GRAIN_SETS
from recognizer.benchmark.zero_shot import region_term, zero_shot
from recognizer.encoder import ImageFeatures
from recognizer.errors import RecognizerError
from recognizer.settings import Settings
from tests.recognizer.benchmark.miniatures import COLOURS, MAKE, coop, food, lines, pets, picture
from tests.recognizer.worlds import make_features, make_vectors
from tests.reference import grain_region_term

# Classes of the first colour, by a word of theirs; all other words mean the second.
RED = ("apple", "pie", "airplane", "abbey", "hummer", "banded", "abyssinian", "face", "primrose", "footed", "airfield")
RED += ("707", "annual", "goldfish", "shark")


class Eye:
    """Stands in for an encoder: a vector is how red and how blue an image or a text is."""

    dim = 2
    default_templates = ("a picture of {}.",)

    def __init__(self, encoder):
        self.card, self.input_size_hw, self.fit = encoder.card, encoder.input_size_hw, encoder.fit
        self.preprocess_fitted = encoder.preprocess_fitted
        self.read = []

    def encode_texts(self, texts):
        self.read += texts
        red = np.array([any(word in text.lower() for word in RED) for text in texts], np.float32)
        vectors = np.stack([0.2 + red, 1.2 - red], axis=1)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_pixels(self, pixels, frames):
        seen = pixels.float().mean((2, 3)).numpy()[:, [0, 2]]
        image = (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)
        count = len(frames)
        return ImageFeatures(
            image=image,
            regions=image[:, None].repeat(2, 1),
            boxes_xyxy=np.zeros((count, 2, 4), np.float32),
            region_weight=np.ones((count, 2), np.float32),
            region_area=np.zeros((count, 2), np.float32),
        )


@pytest.fixture
def eye(starter):
    return Eye(starter)


@pytest.fixture
def bench(eye):
    return Bench(eye, Settings.model_validate({"run": {"workers": 1}}))


def figures(table):
    return {(row.data, row.what, row.metric): row.mean for row in table.rows}


@pytest.mark.usefixtures("any_content")
def test_all_sets_are_measured_and_averaged(bench, tmp_path):
    for name, make in MAKE.items():
        make(tmp_path) if name not in ("ImageNet", "ImageNetV2") else None
    coop(tmp_path, *DATA_SETS["UCF101"].coop, ["apple", "writing"])
    table = zero_shot(bench, tmp_path, sets=[name for name in DATA_SETS if not name.startswith("ImageNet")])
    found = figures(table)
    what = "names, per-set templates"
    wrong = {name: 1 - found[name, what, "top-1"] for name in (*GRAIN_SETS, "FGVCAircraft", "EuroSAT", "UCF101")}
    assert wrong == dict.fromkeys(wrong, 0)
    assert found["average of 11", what, "top-1"] == found["average of 11", what, "CLIP's of each set"] == 1
    per_class = {data for data, _, metric in found if metric == "mean per class"}
    assert per_class == {"OxfordPets", "Caltech101", "Flowers102", "FGVCAircraft"}
    assert all(row.n for row in table.rows)


def test_a_set_that_is_not_there_has_a_row_and_a_damaged_one_too(bench, tmp_path):
    food(tmp_path)
    (tmp_path / "SUN397").mkdir()
    table = zero_shot(bench, tmp_path)
    notes = {row.data: row.note for row in table.rows if not row.values}
    assert len(notes) == len(DATA_SETS) - 1
    assert "not there; expected dtd/dtd/images, labels or dtd/images" in notes["DTD"]
    assert "SUN397 cannot be read" in notes["SUN397"]
    assert "has nothing" in notes["SUN397"]
    text = "\n".join(table.lines())
    assert text.count(bench.encoder.card.name) == len(table.rows)
    assert not any(row.data.startswith("average") for row in table.rows)


def test_a_set_whose_images_fail_costs_only_itself(bench, tmp_path):
    food(tmp_path)
    pets(tmp_path)
    for path in (tmp_path / "oxford-iiit-pet" / "images").iterdir():
        path.write_bytes(b"")
    table = zero_shot(bench, tmp_path, sets=["OxfordPets", "Food101"])
    assert "none of 2 images could be decoded" in table.rows[0].note
    assert table.rows[1].mean == 1


def test_none_there_is_an_error_with_the_layouts(bench, tmp_path):
    lines(tmp_path / "readme.txt", "a")
    with pytest.raises(
        LayoutError, match=r"has readme\.txt, and none of the data sets; expected cifar-10.*food-101/images.*--labelled"
    ):
        zero_shot(bench, tmp_path)
    with pytest.raises(LayoutError, match="is not a folder"):
        zero_shot(bench, tmp_path / "nowhere")
    (tmp_path / "food-101").mkdir()
    with pytest.raises(LayoutError, match=r"^Food101 cannot be read.*has nothing$"):
        zero_shot(bench, tmp_path)
    with pytest.raises(RecognizerError, match="no data set 'Food102'; there are CIFAR10"):
        zero_shot(bench, tmp_path, sets=["Food102"])
    with pytest.raises(RecognizerError, match="nothing to measure"):
        zero_shot(bench, None)


def test_mean_per_class_and_top1_differ_where_classes_are_uneven(bench, tmp_path):
    pets(tmp_path)
    root = tmp_path / "oxford-iiit-pet"
    names = ["Abyssinian_test", *(f"american_bulldog_{k}" for k in range(3))]
    lines(root / "annotations" / "test.txt", *(f"{name} {1 + (k > 0)} 1 1" for k, name in enumerate(names)))
    for name in names[1:]:
        picture(root / "images" / f"{name}.jpg", 1)
    picture(root / "images" / "Abyssinian_test.jpg", 1)  # looks like the other class
    food(tmp_path)
    table = zero_shot(bench, tmp_path, sets=["OxfordPets", "Food101", "DTD"])
    found, what = figures(table), "names, per-set templates"
    assert found["OxfordPets", what, "mean per class"] == 0.5
    assert found["OxfordPets", what, "top-1"] == 0.75
    assert found["Food101", what, "top-1"] == 1
    average = "average of 2 of GRAIN's 11"
    assert found[average, what, "CLIP's of each set"] == 0.75
    assert found[average, what, "top-1"] == 0.875
    assert table.rows[-1].n == 8
    assert "DTD" in table.rows[-1].note


def test_templates_are_those_of_the_choice(bench, eye, tmp_path):
    food(tmp_path)
    own = tmp_path / "own.txt"
    own.write_text("my {}\n")
    table = zero_shot(bench, tmp_path, sets=["Food101"], templates=["per-set", "7", "80", str(own)])
    assert [row.what for row in table.rows] == [f"names, {choice} templates" for choice in ("per-set", "7", "80", own)]
    assert {"a photo of apple pie, a type of food.", "itap of a apple pie.", "my waffles"} < set(eye.read)
    assert len([text for text in set(eye.read) if "waffles" in text]) == 1 + 7 + 80 - 7 + 1  # the 7 are among the 80
    with pytest.raises(RecognizerError, match="neither per-set, 7, 80 nor a file"):
        zero_shot(bench, tmp_path, templates=["70"])


def test_imagenet_has_its_80_templates_by_default(bench, eye, tmp_path, monkeypatch):
    monkeypatch.setattr("open_clip.IMAGENET_CLASSNAMES", ["tench", "goldfish", "great white shark"])
    MAKE["ImageNet"](tmp_path)
    zero_shot(bench, tmp_path, sets=["ImageNet"])
    assert len({text for text in eye.read if "goldfish" in text}) == 80


def test_descriptions_are_found_by_name_in_any_order_and_the_control_has_other_words(bench, eye, tmp_path):
    food(tmp_path / "sets")
    lines(
        tmp_path / "texts/descriptors_food101.json", json.dumps({"Waffles": ["brown grid"], "apple pie": ["red crust"]})
    )
    table = zero_shot(bench, tmp_path / "sets", sets=["Food101"], descriptions=tmp_path / "texts", alpha=0.25)
    whats = ["names", "descriptions", "random words (control)", "GRAIN's formula, alpha 0.25"]
    assert [row.what for row in table.rows] == [f"{what}, per-set templates" for what in whats]
    assert {row.note for row in table.rows[1:]} == {"2 of 2 classes described"}
    assert {"a photo of waffles, a type of food, brown grid.", "red crust"} < set(eye.read)
    assert table.to_json()["options"]["alpha"] == 0.25
    lines(tmp_path / "other.json", json.dumps({"heron": ["long legs"]}))
    table = zero_shot(bench, tmp_path / "sets", sets=["Food101"], descriptions=tmp_path / "other.json")
    assert [row.what for row in table.rows] == ["names, per-set templates"]
    assert "other.json is a class of a set" in table.notes[-1]


def test_any_labelled_folder_is_a_set_with_the_encoders_templates(bench, eye, tmp_path):
    for label, name in enumerate(("apple_tree", "sky")):
        picture(tmp_path / "mine" / name / "a.jpg", label)
    table = zero_shot(bench, None, labelled=tmp_path / "mine")
    assert figures(table) == {("mine", "names, per-set templates", "top-1"): 1.0}
    assert eye.read == ["a picture of apple tree.", "a picture of sky."]


def test_alpha_1_is_the_whole_image_and_0_the_regions(bench, tmp_path):
    """The regions of this encoder are red whatever it looks at."""
    encode = bench.encoder.encode_pixels

    def encode_pixels(pixels, frames):
        found = encode(pixels, frames)
        found.regions[:] = np.array([1, 0], np.float32)
        return found

    bench.encoder.encode_pixels = encode_pixels
    food(tmp_path)
    lines(tmp_path / "texts.json", json.dumps({"waffles": ["grid"], "apple pie": ["apple slices"]}))
    hits = {}
    for alpha in (0, 1):
        table = zero_shot(bench, tmp_path, sets=["Food101"], descriptions=tmp_path / "texts.json", alpha=alpha)
        hits[alpha] = table.rows[-1].mean
    assert hits == {0: 0.5, 1: 1.0}


@pytest.mark.parametrize("counts", [[0, 0, 0], [2, 0, 3, 1], [0, 1], [3, 2, 0]])
def test_region_term_equals_the_loops(counts):
    rng = np.random.default_rng(0)
    vectors, features = make_vectors(rng, counts), make_features(rng)
    regions = [own[: 1 + number] for number, own in enumerate(features.regions)]
    expected = grain_region_term(regions, vectors)
    np.testing.assert_allclose(region_term(regions, vectors), expected, atol=1e-6)


def test_colours_are_seen(eye):
    pixels = torch.tensor(COLOURS, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, *eye.input_size_hw)
    assert eye.encode_pixels(pixels, [None, None]).image.argmax(1).tolist() == [0, 1]
