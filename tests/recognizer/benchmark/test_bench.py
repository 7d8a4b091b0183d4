"""What protocols measure with."""

import numpy as np
import pytest

from memory import Category, Description, Memory
from recognizer.benchmark.bench import Bench, LayoutError, contents
from recognizer.encoder import ImageFeatures
from recognizer.errors import RecognizerError
from recognizer.images import source_items
from recognizer.settings import Settings
from tests.memory.fake_encoder import FakeEncoder
from tests.recognizer.benchmark.miniatures import picture


class Glimpse(FakeEncoder):
    """Encodes every image alike."""

    def __init__(self, starter):
        super().__init__(dim=4)
        self.dim, self.input_size_hw, self.fit = 4, starter.input_size_hw, starter.fit
        self.preprocess_fitted = starter.preprocess_fitted

    def encode_pixels(self, pixels, frames):
        count = len(frames)
        return ImageFeatures(
            image=np.full((count, 4), 0.5, np.float32),
            regions=np.full((count, 1, 4), 0.5, np.float32),
            boxes_xyxy=np.zeros((count, 1, 4), np.float32),
            region_weight=np.ones((count, 1), np.float32),
            region_area=np.zeros((count, 1), np.float32),
        )


def test_class_vectors_are_those_of_a_memory_in_the_order_of_the_classes(starter, tmp_path):
    encoder = Glimpse(starter)
    words = (Description("yellow eyes"), Description("An owl in snow.", kind="sentence"))
    categories = [Category("snowy owl", descriptions=words), Category("heron", aliases=("grey heron",))]
    templates = ("a photo of a {}.", "a drawing of a {}.")
    vectors = Bench(encoder, Settings()).class_vectors(categories, templates)
    stored = Memory.build(categories, tmp_path / "m", encoder=encoder, templates=templates).vectors
    order = [[each.name for each in stored.categories].index(each.name) for each in categories]
    np.testing.assert_array_equal(vectors.names, stored.names[order])
    np.testing.assert_array_equal(vectors.grounded, stored.grounded)
    np.testing.assert_array_equal(vectors.bare, stored.bare)
    assert vectors.offsets.tolist() == [0, 2, 2]


def test_two_classes_may_have_one_name(starter):
    vectors = Bench(Glimpse(starter), Settings()).class_vectors([Category("missile"), Category("missile")], ["a {}"])
    np.testing.assert_array_equal(vectors.names[0], vectors.names[1])
    assert vectors.bare.shape == (0, 4)


def test_images_that_fail_are_left_out_and_counted(starter, tmp_path, capsys):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg", 0)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    bench = Bench(Glimpse(starter), Settings.model_validate({"run": {"workers": 1, "batch_size": 2}}))
    items = source_items([tmp_path / name for name in ("a.jpg", "bad.jpg", "b.jpg")])
    batches = list(bench.encode(items, [5, 6, 7], "mine"))
    assert [batch.rows.tolist() for batch in batches] == [[5], [7]]
    assert "mine: images that could not be decoded and do not count: {'E_NOT_IMAGE': 1}" in capsys.readouterr().err
    with pytest.raises(RecognizerError, match=r"mine: none of 1 images could be decoded; bad\.jpg"):
        list(bench.encode(items[1:2], [0], "mine"))


def test_contents_of_a_folder_are_named_up_to_ten(tmp_path):
    assert contents(tmp_path) == "nothing"
    (tmp_path / "z").mkdir()
    for number in range(11):
        (tmp_path / f"{number:02d}").touch()
    assert contents(tmp_path) == "00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 2 more"
    (tmp_path / "00").unlink()
    assert contents(tmp_path / "z") == "nothing"
    with pytest.raises(LayoutError, match="is not a folder"):
        contents(tmp_path / "01")
