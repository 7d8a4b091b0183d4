import io

import numpy as np
import pytest
from PIL import Image

from recognizer.images import ImageLimits
from training.data.record import Rejects
from training.data.shards import Shards, ShardSample, write_shards
from training.data.sources import open_sources, read_sample
from training.data.statistics import measure_data


def jpeg(width, height):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (9, 99, 200)).save(stream, "JPEG")
    return stream.getvalue()


def region(box, *descriptions, score=1.0):
    return {"box_xyxy": box, "descriptions": list(descriptions), "score": score}


SAMPLES = [
    ShardSample(
        "a",
        jpeg(200, 100),
        {
            "captions": ["A dog's red ball", "the ball"],
            "regions": [
                region([0, 0, 100, 50], "red ball", "a round red thing", score=0.5),
                region([100, 0, 200, 100], "Red", score=0.25),
                region([0, 0, 900, 50], "outside"),
            ],
        },
    ),
    ShardSample("b", b"no image", {"caption": "b"}),
    ShardSample("c", jpeg(50, 60), {"caption": "no region here"}),
    ShardSample("d", jpeg(50, 60), {"regions": [region([0, 0, 5, 5], "without a caption")]}),
]


@pytest.fixture
def measured(tmp_path):
    done = []
    found = measure_data(Shards(write_shards(SAMPLES, tmp_path)), limits=ImageLimits(), progress=done.append)
    assert done == [1] * 4
    return found


def test_values_are_counted_by_image_box_and_text(measured):
    found = {name: values.tolist() for name, values in measured.values.items()}
    assert found == {
        "image width": [200, 50],
        "image height": [100, 60],
        "captions per image": [2, 1],
        "boxes per image": [2, 0],
        "words per caption": [4, 2, 3],
        "box area, share of the image": [0.25, 0.5],
        "score of a box": [0.5, 0.25],
        "descriptions per box": [2, 1],
        "words per description": [2, 4, 1],
    }
    assert measured.without_boxes == 1
    assert measured.good_rows == [0, 2]


def test_words_are_counted_once_a_text_without_those_that_say_nothing(measured):
    assert measured.caption_words == {"dog's": 1, "red": 1, "ball": 2, "region": 1, "here": 1}
    assert measured.description_words == {"red": 3, "ball": 1, "round": 1, "thing": 1}


def test_what_cannot_be_used_is_counted_as_training_counts_it(measured):
    assert measured.rejects.to_json() == {
        "seen": 4,
        "samples": {"unreadable image (E_NOT_IMAGE)": 1, "no caption": 1},
        "parts": {"box outside the image": 1},
    }


def test_a_row_has_the_number_the_mean_and_percentiles(measured):
    rows = {row[0]: row[1:] for row in measured.rows()}
    values = [4, 2, 3]
    assert rows["words per caption"][:2] == ["3", "3"]
    assert rows["words per caption"][2:] == ["2", f"{np.percentile(values, 5):.3g}", "3", "3.9", "4"]
    assert rows["image width"] == ["2", "125", "50", "57.5", "125", "192", "200"]


def test_shards_that_cannot_be_read_are_counted(tmp_path):
    good = write_shards(SAMPLES, tmp_path)
    (tmp_path / "zz.tar").write_bytes(b"no shard")
    found = measure_data(open_sources([tmp_path]), limits=ImageLimits())
    assert len(good) == 1
    assert found.rejects.parts["unreadable shard"] == 1


def test_a_sample_may_be_read_at_a_reduced_size(tmp_path):
    shards = Shards(write_shards([ShardSample("a", jpeg(800, 400), {"caption": "x"})], tmp_path))
    key, decoded, record = read_sample(shards, 0, Rejects(), limits=ImageLimits(), target_size_hw=(50, 50))
    assert (key, record.captions) == ("shard-000000.tar/a", ("x",))
    assert decoded.displayed_size_hw == (400, 800)
    assert decoded.image.size == (100, 50)
