import io
import tarfile
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import WriteFailed
from training.data.manifest import MOST_JSON_BYTES
from training.data.record import BadSample, Rejects, make_record
from training.data.shards import Shards, ShardSample, write_shards
from training.errors import DataError


def samples(count, start=0):
    return [
        ShardSample(f"k{i}", bytes([i % 256]) * (100 + 400 * i), {"captions": [f"no. {i}"]})
        for i in range(start, count)
    ]


def read_all(shards):
    return [(raw.key, raw.image, dict(raw.fields)) for raw in (shards.read(row) for row in range(len(shards)))]


def test_what_is_written_is_read_in_order(tmp_path):
    write_shards(samples(9), tmp_path, per_shard=2)  # replaced, the fifth and fourth shard too
    paths = write_shards(samples(7), tmp_path, per_shard=3)
    shards = Shards(paths)
    assert sorted(tmp_path.iterdir()) == paths
    assert [path.name for path in paths] == [f"shard-{i:06d}.tar" for i in range(3)]
    assert tuple(shards.block_sizes) == (3, 3, 1)
    names = chain(*(repeat(path.name, 3) for path in paths))
    assert read_all(shards) == [
        (f"{name}/{s.key}", s.jpeg, s.fields) for name, s in zip(names, samples(7), strict=False)
    ]
    assert not shards.parts


def test_the_members_are_those_webdataset_expects_and_the_bytes_repeat(tmp_path):
    (first,), (second,) = (write_shards(samples(2), tmp_path / name) for name in "ab")
    with tarfile.open(first) as archive:
        assert archive.getnames() == ["k0.jpg", "k0.json", "k1.jpg", "k1.json"]
    assert first.read_bytes() == second.read_bytes()


def test_a_sample_with_endless_json_is_bad_and_the_others_are_read(tmp_path):
    endless = ShardSample("long", b"x", {"caption": "x" * MOST_JSON_BYTES})
    shards = Shards(write_shards([endless, *samples(1)], tmp_path))
    with pytest.raises(BadSample, match="JSON of more than"):
        shards.read(0)
    assert shards.read(1).fields == {"captions": ["no. 0"]}


@pytest.fixture(scope="module")
def whole_shard(tmp_path_factory):
    return write_shards(samples(5), tmp_path_factory.mktemp("whole"))[0].read_bytes()


@given(share=st.floats(0.01, 0.99))
def test_of_a_shard_cut_short_the_whole_samples_are_used(whole_shard, tmp_path_factory, share):
    with tarfile.open(fileobj=io.BytesIO(whole_shard)) as archive:
        ends = [member.offset_data + member.size for member in archive if member.name.endswith("json")]
    path = tmp_path_factory.mktemp("cut") / "s.tar"
    cut = int(share * ends[-1])
    path.write_bytes(whole_shard[:cut])
    whole = sum(end <= cut for end in ends)
    if whole == 0:
        with pytest.raises(DataError, match="no samples in 1 shards"):
            Shards([path])
        return
    shards = Shards([path])
    assert [image for _, image, _ in read_all(shards)] == [s.jpeg for s in samples(whole)]
    assert dict(shards.parts) == {"shard cut short": 1}


def test_a_cut_between_samples_is_noticed_too(whole_shard, tmp_path):
    with tarfile.open(fileobj=io.BytesIO(whole_shard)) as archive:
        third = archive.getmember("k3.jpg").offset
    (tmp_path / "s.tar").write_bytes(whole_shard[:third])
    shards = Shards([tmp_path / "s.tar"])
    assert len(shards) == 3
    assert shards.parts["shard cut short"] == 1


def test_files_that_are_not_shards_are_counted_and_the_others_used(tmp_path):
    good = write_shards(samples(2), tmp_path)
    (tmp_path / "noise.tar").write_bytes(b"noise" * 1000)
    shards = Shards([tmp_path / "noise.tar", *good, tmp_path / "gone.tar"])
    assert tuple(shards.block_sizes) == (0, 2, 0)
    assert shards.read(1).key.endswith("/k1")
    assert dict(shards.parts) == {"unreadable shard": 1, "missing shard": 1}


def write_members(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_the_caption_of_a_text_file_counts_where_the_json_has_none(tmp_path):
    """As webdataset writes them, and img2dataset, which repeats the caption of its JSON object in a text file."""
    members = {
        "000001.jpg": b"1",
        "000001.txt": "\ufeffein Fuchs, rot\n".encode(),
        "000002.txt": b"a dog",
        "000002.png": b"2",
        "000003.jpg": b"3",
        "000003.json": b'{"caption": "of the JSON"}',
        "000003.txt": b"of the text",
        "000004.jpg": b"4",
        "000004.json": b'{"width": 9, "caption": null}',
        "000004.txt": b"of the text",
        "000005.jpg": b"5",
        "000005.txt": b"\xff\xfe",
        "LICENSE.txt": b"free",
    }
    shards = Shards([write_members(tmp_path / "s.tar", members)])
    assert len(shards) == 5
    found = [shards.read(row) for row in range(4)]
    assert [raw.image for raw in found] == [b"1", b"2", b"3", b"4"]
    records = [make_record(raw.fields, (9, 9), Rejects()) for raw in found]
    assert [record.captions for record in records] == [
        ("ein Fuchs, rot",),
        ("a dog",),
        ("of the JSON",),
        ("of the text",),
    ]
    with pytest.raises(BadSample, match="not UTF-8"):
        shards.read(4)


def test_of_a_shard_of_texts_cut_short_the_whole_samples_are_used(tmp_path):
    members = {f"{n}.{kind}": b"x" * 600 for n in range(3) for kind in ("jpg", "json", "txt")}
    path = write_members(tmp_path / "s.tar", members)
    with tarfile.open(path) as archive:
        cut = archive.getmember("2.txt").offset
    path.write_bytes(path.read_bytes()[:cut])
    assert len(Shards([path])) == 2


def test_a_sample_without_its_other_half_is_bad(tmp_path):
    names = ("a.jpg", "b.json", "c.json", "c.png", "c.txt")
    shards = Shards([write_members(tmp_path / "s.tar", dict.fromkeys(names, b"{}"))])
    for row in (0, 1):
        with pytest.raises(BadSample, match="sample without image, or without JSON and text"):
            shards.read(row)
    assert shards.read(2).image == b"{}"


def test_a_shard_appears_whole_or_not_at_all(tmp_path):
    def failing():
        yield from samples(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_shards(failing(), tmp_path, per_shard=2)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-000000.tar"]


def test_a_key_that_would_split_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'a\.b'"):
        write_shards([ShardSample("a.b", b"", {})], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(WriteFailed, match="No space left"):
        write_shards(samples(1), tmp_path)
    assert not list(tmp_path.iterdir())
