import numpy as np
import pytest
from PIL import Image

from recognizer.encoder import Encoder
from tests.training.runs import write_labelled
from training.config import EvaluationSet
from training.zero_shot import accuracy_table, zero_shot

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_accuracy_is_that_of_the_nearest_name(tiny_model, tmp_path):
    encoder = Encoder.load(tiny_model, device="cpu", precision="fp32")
    labelled = write_labelled(tmp_path)
    measured = zero_shot(encoder, EvaluationSet.model_validate(labelled))
    names = ["even", "odd"]
    texts = encoder.encode_texts([template.format(name) for name in names for template in encoder.default_templates])
    right = 0
    for row, name in enumerate(names):
        images = [Image.open(path).convert("RGB") for path in sorted((tmp_path / "labelled" / name).iterdir())]
        right += int((np.argmax(encoder.encode_images(images).image @ texts.T, axis=1) == row).sum())
    assert list(measured) == ["names", "+ regions"]  # the labels have no descriptions
    assert measured["names"] == {"top1": right / 8, "top5": 1.0, "images": 8.0}


def test_the_table_has_a_row_for_each_measurement_set_and_way():
    accuracy = {"names": {"top1": 0.25, "top5": 0.5, "images": 8.0}}
    text = accuracy_table({"epoch 2": {"stamps": accuracy, "emoji": accuracy}, "held out": {"stamps": accuracy}})
    rows = [line.split() for line in text.splitlines() if "0.2500" in line]
    assert [row[:-4] for row in rows] == [["epoch", "2", "stamps"], ["epoch", "2", "emoji"], ["held", "out", "stamps"]]
    assert {tuple(row[-4:]) for row in rows} == {("names", "0.2500", "0.5000", "8")}
