import os

import numpy as np
import pytest

from training.data.shard_index import ShardIndex, index_shard
from training.data.shards import ShardSample, write_shards

FEW, MANY = 1999, 2000  # just too few samples for a stored index, and just enough


def write(folder, count):
    samples = (ShardSample(f"k{number}", b"x", {}) for number in range(count))
    (path,) = write_shards(samples, folder, per_shard=count)
    return path, path.with_name(f"{path.name}.index.npz")


def equal(some: ShardIndex, others: ShardIndex):
    return some.cut_short == others.cut_short and all(
        np.array_equal(getattr(some, name), getattr(others, name)) for name in ("keys", "images", "jsons", "texts")
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write(tmp_path_factory.mktemp("many"), MANY)


def overwrite(path):
    """Destroy a shard so that neither size nor modification time shows it."""
    stamp, size = path.stat().st_mtime_ns, path.stat().st_size
    content = path.read_bytes()
    path.write_bytes(bytes(size))
    os.utime(path, ns=(stamp, stamp))
    return content


def test_the_index_of_a_large_shard_is_stored_and_used(many):
    path, stored = many
    stored.unlink(missing_ok=True)
    first = index_shard(path)
    assert len(first) == MANY
    assert stored.is_file()
    stamp = path.stat().st_mtime_ns
    content = overwrite(path)
    assert equal(index_shard(path), first)
    path.write_bytes(content)
    os.utime(path, ns=(stamp, stamp))


@pytest.mark.parametrize("damage", [b"PK\x03\x04 damaged", b""])
def test_a_damaged_index_is_made_again(many, damage):
    path, stored = many
    stored.write_bytes(damage)
    assert len(index_shard(path)) == MANY
    assert stored.stat().st_size > len(damage)


def test_a_changed_shard_is_indexed_again(many):
    path, _ = many
    index_shard(path)
    os.utime(path, ns=(1, 1))
    content = path.read_bytes()
    path.write_bytes(content[:3000])
    assert index_shard(path).cut_short
    path.write_bytes(content)
    assert len(index_shard(path)) == MANY


def test_a_small_shard_has_no_stored_index(tmp_path):
    path, stored = write(tmp_path, FEW)
    assert len(index_shard(path)) == FEW
    assert not stored.exists()
