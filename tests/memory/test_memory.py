import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memory import Category, Description, Memory, MemoryStoreError, UnknownCategory
from tests.memory.building import build, exported

HOSTILE = [
    "x' OR '1'='1",
    "'; DROP TABLE categories; --",
    "a\nb",
    '"',
    "\\",
    "%",
    "=cmd()",
    "🦩",
    "\u202eabc",
    "n" * 9999,
]


def test_removing_takes_out_exactly_what_is_named(directory, encoder):
    everything = [Category(name, descriptions=(Description(f"about {i}"),)) for i, name in enumerate(HOSTILE)]
    build([*everything, Category("1"), Category("crane", "a"), Category("crane", "b")], directory, encoder)
    memory = Memory.open(directory)
    for number, name in enumerate(HOSTILE, start=1):
        assert [c.name for c in memory.remove([name])] == [name]
        assert memory.info().categories == len(HOSTILE) + 3 - number
    with pytest.raises(UnknownCategory, match="matches 2 categories; give the id"):
        memory.remove(["1", "crane"])
    memory.remove([Category("crane", "b").id])
    memory = Memory.open(directory)
    assert {(c.name, c.group) for c in memory.vectors.categories} == {("1", ""), ("crane", "a")}
    assert len(memory.vectors.bare) == 0
    assert all(finding.ok for finding in memory.verify())


def test_removing_the_unknown_changes_nothing_and_names_what_is_near(categories, directory, encoder):
    build(categories, directory, encoder)
    memory = Memory.open(directory)
    with pytest.raises(UnknownCategory, match=r"no category 'catt'.*Similar names: 'cat'"):
        memory.remove(["dog", "catt"])
    assert Memory.open(directory).version == 1


def test_a_memory_can_become_empty_and_grow_again(categories, directory, encoder):
    build(categories, directory, encoder)
    memory = Memory.open(directory)
    memory.remove([c.id for c in categories])
    memory = Memory.open(directory)
    assert memory.vectors.names.shape == (0, 16)
    assert memory.index().search(np.ones((2, 16), np.float32), 3)[1].shape == (2, 0)
    assert exported(memory) == ""
    memory.add(categories[:1], encoder=encoder)
    assert [c.name for c in Memory.open(directory).vectors.categories] == ["cat"]


def test_writers_see_what_others_published(categories, directory, encoder):
    build(categories, directory, encoder)
    one, two = Memory.open(directory), Memory.open(directory)
    one.remove(["dog"])
    two.add([Category("emu")], encoder=encoder)
    one.remove(["cat"])
    memory = Memory.open(directory)
    assert sorted(c.name for c in memory.vectors.categories) == ["crane", "crane", "emu"]
    assert memory.version == 4


def test_an_open_memory_outlives_one_rewrite_and_says_when_it_is_gone(categories, directory, encoder):
    build(categories, directory, encoder)
    early, late = Memory.open(directory), Memory.open(directory)
    build(categories[:1], directory, encoder)
    assert len(early.vectors.categories) == 4
    build(categories[:2], directory, encoder)
    with pytest.raises(MemoryStoreError, match="Open the memory again"):
        _ = late.vectors


READ_ONLY = """
import os, sys
import lancedb, numpy.random  # a library that another user may not read has to be loaded before
from memory import Memory, MemoryStoreError
from memory.search import Fold
Memory.open(sys.argv[1]).index()
if os.geteuid() == 0:
    os.setuid(65534)
memory = Memory.open(sys.argv[1])
assert memory.index(Fold(0.1, 0.2)).search(memory.vectors.names, 2)[1][1, 0] == 1
assert all(finding.ok or finding.check == "index" for finding in memory.verify())
try:
    memory.remove(["dog"])
except MemoryStoreError as error:
    print(error)
"""


def test_a_memory_that_cannot_be_written_is_served(categories, encoder):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "memory"
        build(categories, directory, encoder, index="hnsw")
        files = [Path(name), directory, *directory.rglob("*")]
        for path in files:
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-c", READ_ONLY, str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        for path in files:
            path.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr
    assert "cannot be written (Permission denied). Give write permission" in done.stdout


def test_a_name_is_found_in_any_normal_form(directory, encoder):
    memory = build([Category("caf\u00e9"), Category("b")], directory, encoder)
    assert [c.name for c in memory.remove(["cafe\u0301"])] == ["caf\u00e9"]


def test_a_single_text_is_no_list_of_names(categories, directory, encoder):
    memory = build(categories, directory, encoder)
    with pytest.raises(ValueError, match="not the single text 'cat'"):
        memory.remove("cat")
    with pytest.raises(ValueError, match="no category to add"):
        memory.add([], encoder=encoder)


def test_bare_categories_are_those_of_the_vectors_without_texts_and_images(categories, directory, encoder):
    build([*categories, Category("emu", aliases=("Dromaius",), metadata={"a": "1"})], directory, encoder)
    memory = Memory.open(directory)
    bare = list(memory.bare_categories())
    assert bare == [replace(c, descriptions=(), exemplars=()) for c in memory.vectors.categories]
    assert memory.bare_categories()[1:3] == bare[1:3]
    assert memory.bare_categories()[-1] == bare[-1]
    assert [c.aliases for c in bare if c.name == "emu"] == [("Dromaius",)]
