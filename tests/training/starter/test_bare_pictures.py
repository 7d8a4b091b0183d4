import csv
import io

import pytest
from PIL import Image

from training.data.manifest import Manifest
from training.data.shards import Shards, ShardSample, write_shards
from training.starter.bare_pictures import write_bare


@pytest.fixture
def shards(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(stream, "JPEG")
    region = {"box_xyxy": [1, 2, 30, 20], "descriptions": ["tea pot", "a grey tea pot"]}
    fields = [{"captions": ["tea pot", "a tea pot"], "regions": [region]}, {"caption": "two", "regions": []}]
    samples = [ShardSample(str(n), stream.getvalue(), each) for n, each in enumerate(fields)]
    return Shards(write_shards(samples, tmp_path / "shards"))


def test_pictures_of_one_object_are_written_with_their_name_and_with_their_exact_box(shards, tmp_path):
    assert write_bare(shards, tmp_path / "bare") == 1
    with open(tmp_path / "bare" / "bare.csv", newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["path", "subject"], ["000000.jpg", "tea pot"]]
    assert (tmp_path / "bare" / "names.txt").read_text() == "tea pot\n"
    (sample,) = (Manifest(tmp_path / "bare" / "exact.jsonl").read(row) for row in range(1))
    assert sample.image == shards.read(0).image
    assert sample.fields["regions"][0]["box_xyxy"] == [1.0, 2.0, 30.0, 20.0]
