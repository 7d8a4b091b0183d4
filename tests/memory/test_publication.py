"""A build that has nothing to do does nothing; one that has publishes once, with its index."""

from memory import Category, Memory
from memory.manifest import read_manifest
from tests.memory.building import build


def test_the_same_build_again_publishes_nothing(categories, directory, encoder):
    first = build(categories, directory, encoder)
    manifest = (directory / "MEMORY.json").read_bytes()
    again = build(list(reversed(categories)), directory, encoder)
    assert (again.report.unchanged, first.report.unchanged) == (True, False)
    assert (directory / "MEMORY.json").read_bytes() == manifest
    assert again.report.categories == len(categories)
    assert build([*categories, Category("emu")], directory, encoder).version == first.version + 1


def test_other_settings_alone_keep_the_tables(categories, directory, encoder):
    first = build(categories, directory, encoder, settings={"a": 1})
    again = build(categories, directory, encoder, settings={"a": 2})
    assert again.report.unchanged
    assert Memory.open(directory).settings == {"a": 2}
    assert again.digest == first.digest


def test_another_kind_of_index_is_built_over_the_same_tables(categories, directory, encoder):
    build(categories, directory, encoder)
    approximate = build(categories, directory, encoder, index="hnsw")
    assert approximate.index_kind == "hnsw"
    assert approximate.report.ann_recall == 1.0
    assert (directory / "index" / "INDEX.json").exists()
    build(categories, directory, encoder)
    assert not (directory / "index").exists()
    assert read_manifest(directory).index.kind == "exact"
