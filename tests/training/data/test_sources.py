import json

import pytest

from tests.training.data.test_shards import samples
from training.data.shards import write_shards
from training.data.sources import open_sources
from training.errors import DataError


def test_sources_of_all_kinds_are_joined(tmp_path):
    write_shards(samples(3), tmp_path / "folder", per_shard=2)
    (alone,) = write_shards(samples(1), tmp_path / "alone")
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": "a.jpg", "caption": "x"}))
    source = open_sources([tmp_path / "folder", alone, tmp_path / "m.jsonl"])
    assert tuple(source.block_sizes) == (2, 1, 1, 1)
    keys = [source.read(row).key for row in range(len(source))]
    assert source.read(3).image == samples(1)[0].jpeg
    assert source.read(4).image == b"image"
    assert [key.split("/")[-1] for key in keys] == ["k0", "k1", "k2", "k0", "a.jpg"]


def test_a_path_of_no_known_kind_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.csv"):
        open_sources([tmp_path / "data.csv"])
    with pytest.raises(DataError, match="no training data is named"):
        open_sources([])


def test_faults_of_all_sources_are_counted(tmp_path):
    for name in "ab":
        write_shards(samples(2), tmp_path / name)
        (tmp_path / name / "noise.tar").write_bytes(b"noise" * 1000)
    assert open_sources([tmp_path / "a", tmp_path / "b"]).parts == {"unreadable shard": 2}
