"""R@k on a miniature of Karpathy's splits, by an encoder that knows which caption is whose."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.benchmark.bench import Bench, LayoutError
from recognizer.benchmark.retrieval import CAPTIONS, pair_ranks, read_captions, retrieval
from recognizer.encoder import ImageFeatures
from recognizer.settings import Settings
from tests.recognizer.benchmark.miniatures import picture
from tests.reference import found_among_the_first


class Pairs:
    """Stands in for an encoder: texts and images are red or blue, and so is the one region of each image, or not."""

    dim = 2

    def __init__(self, encoder, *, regions_see=True):
        self.card, self.input_size_hw, self.fit = encoder.card, encoder.input_size_hw, encoder.fit
        self.preprocess_fitted = encoder.preprocess_fitted
        self.regions_see, self.read = regions_see, []

    def encode_texts(self, texts):
        self.read += texts
        return np.array([[1, 0] if "red" in text else [0, 1] for text in texts], np.float32)

    def encode_pixels(self, pixels, frames):
        is_red = pixels.float().mean((2, 3)).numpy()[:, 0] > 128
        image = np.stack([is_red, ~is_red], 1).astype(np.float32)
        return ImageFeatures(
            image=image,
            regions=(image if self.regions_see else image[:, ::-1])[:, None].copy(),
            boxes_xyxy=np.zeros((len(frames), 1, 4), np.float32),
            region_weight=np.ones((len(frames), 1), np.float32),
            region_area=np.zeros((len(frames), 1), np.float32),
        )


def karpathy(folder, *, name="flickr30k", entries=None, images=""):
    entries = entries or [
        ("a.jpg", "test", ["a red one", "red"]),
        ("b.jpg", "test", ["blue"]),
        ("c.jpg", "train", ["x"]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for number, (file, _, _) in enumerate(entries):
        picture(folder / images / file, number % 2)
    listed = [
        {
            "filename": file.rsplit("/", 1)[-1],
            "split": split,
            "sentences": [{"raw": text, "tokens": []} for text in texts],
        }
        | ({"filepath": file.rsplit("/", 1)[0]} if "/" in file else {})
        for file, split, texts in entries
    ]
    path = folder / f"dataset_{name}.json"
    path.write_text(json.dumps({"dataset": name, "images": listed}))
    return path


def bench_of(starter, **options):
    return Bench(Pairs(starter, **options), Settings.model_validate({"run": {"workers": 1}}))


def figures(table):
    return {(row.what, row.metric): (row.mean, row.n) for row in table.rows}


def test_both_directions_are_measured_by_whole_images_and_with_regions(starter, tmp_path):
    karpathy(tmp_path)
    bench = bench_of(starter)
    table = retrieval(bench, tmp_path)
    assert len(table.rows) == 12
    assert {row.data for row in table.rows} == {"flickr30k test"}
    assert set(figures(table).values()) == {(1.0, 2), (1.0, 3)}
    assert figures(table)["text to image, whole image", "R@1"] == (1.0, 3)
    assert bench.encoder.read == ["a red one", "red", "blue"]


@pytest.mark.parametrize(("alpha", "reached"), [(1.0, 1.0), (0.6, 1.0), (0.4, 0.0), (0.0, 0.0)])
def test_alpha_weighs_the_whole_image_against_the_best_region(starter, tmp_path, alpha, reached):
    """The regions of each image see the other colour."""
    karpathy(tmp_path)
    found = figures(retrieval(bench_of(starter, regions_see=False), tmp_path, alpha=alpha))
    for direction in ("image to text", "text to image"):
        assert found[f"{direction}, with regions", "R@1"][0] == reached
        assert found[f"{direction}, whole image", "R@1"][0] == 1


def test_an_image_that_fails_leaves_with_its_captions(starter, tmp_path):
    entries = [("a.jpg", "test", ["red", "red"]), ("b.jpg", "test", ["red", "x"]), ("c.jpg", "test", ["a red", "red"])]
    karpathy(tmp_path, entries=entries)
    (tmp_path / "b.jpg").write_bytes(b"")
    found = figures(retrieval(bench_of(starter), tmp_path))
    assert found["image to text, whole image", "R@1"][1] == 2
    assert found["text to image, whole image", "R@1"] == (0.5, 4)  # both images are red, and the first comes first


def test_the_split_the_first_captions_and_folders_of_coco_are_read(tmp_path):
    texts = [f"caption {number}" for number in range(7)]
    file = karpathy(
        tmp_path, name="coco", entries=[("val2014/a.jpg", "val", [" ", *texts]), ("val2014/b.jpg", "test", [])]
    )
    captioned = read_captions(file, "val")
    assert captioned.name == "coco"
    assert [item.key for item in captioned.items] == ["val2014/a.jpg"]
    assert captioned.captions == [texts[:CAPTIONS]]
    with pytest.raises(LayoutError, match="no image with a caption in the split 'test'; it has test, val"):
        read_captions(file, "test")


def test_images_lie_in_a_usual_folder_or_in_the_one_that_is_named(tmp_path):
    file = karpathy(tmp_path / "a", images="flickr30k-images")
    assert read_captions(file, "test").items[0].path.endswith(b"a/flickr30k-images/a.jpg")
    (tmp_path / "a" / "flickr30k-images").rename(tmp_path / "elsewhere")
    with pytest.raises(LayoutError, match=r"names the image a\.jpg, and .*/a has dataset_flickr30k\.json; expected"):
        read_captions(file, "test")
    assert read_captions(file, "test", tmp_path / "elsewhere").items[0].path.endswith(b"elsewhere/a.jpg")


@pytest.mark.parametrize("content", ["{", "[]", '{"dataset": "x"}', '{"dataset": "x", "images": [{"split": "test"}]}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "dataset_x.json").write_text(content)
    with pytest.raises(LayoutError, match=r"dataset_x\.json is not a file of Karpathy's splits"):
        read_captions(tmp_path / "dataset_x.json", "test")


def test_a_folder_without_such_a_file_is_refused(starter, tmp_path):
    (tmp_path / "captions.csv").touch()
    with pytest.raises(LayoutError, match=r"has captions\.csv; expected dataset_flickr30k\.json or dataset_coco"):
        retrieval(bench_of(starter), tmp_path)


@given(st.data())
def test_ranks_equal_the_sorted_lists(data):
    """Few different scores, so that many are equal."""
    images = data.draw(st.integers(1, 5))
    owner = data.draw(st.permutations([*range(images), *data.draw(st.lists(st.integers(0, images - 1), max_size=4))]))
    values = st.lists(st.integers(0, 3), min_size=len(owner), max_size=len(owner))
    scores = np.array(data.draw(st.lists(values, min_size=images, max_size=images)), np.float32)
    by_image, by_text = pair_ranks(scores, np.array(owner))
    for k in (1, 2, 5):
        expected = found_among_the_first(scores.tolist(), owner, k)
        assert ((by_image <= k).tolist(), (by_text <= k).tolist()) == expected
