"""The followed memory: changes are taken over, damage is said once and the present memory stays."""

import shutil

import pytest

from memory import Category, Memory, MemoryNotFound
from memory.manifest import MANIFEST_COPY, MANIFEST_NAME
from recognizer import Recognizer
from recognizer.serving.following import FollowedMemory


@pytest.fixture
def followed(demo_memory, starter, tmp_path):
    folder = shutil.copytree(demo_memory, tmp_path / "memory")
    said = []
    memory = FollowedMemory(folder, lambda opened, before: Recognizer(starter, opened), said.append)
    return memory, folder, said


def test_a_changed_memory_is_a_new_generation_and_the_old_one_still_answers(followed, starter):
    memory, folder, said = followed
    before = memory.current
    memory.refresh()
    assert memory.current is before
    Memory.open(folder).add([Category("zebra crossing")], encoder=starter)
    memory.refresh()
    assert memory.current.number == 2
    assert len(memory.current.memory.vectors.names) == len(before.memory.vectors.names) + 1
    assert "zebra crossing" not in [category.name for category in before.memory.vectors.categories]
    assert said == ["took the changed memory: version 2, 33 categories"]


def test_what_changes_no_row_makes_no_generation(followed):
    memory, folder, _ = followed
    opened = Memory.open(folder)
    opened.store_settings(opened.settings | {"note": "for people"})
    memory.refresh()
    assert memory.current.number == 1


def test_a_damaged_memory_is_said_once_and_not_used(followed):
    memory, folder, said = followed
    before = memory.current
    for name in (MANIFEST_NAME, MANIFEST_COPY):
        (folder / name).write_text("{}")
    memory.refresh()
    memory.refresh()
    assert memory.current is before
    assert len(said) == 1
    assert "cannot be used" in said[0]
    assert memory.problem == "the changed memory cannot be used"


def test_a_memory_that_is_gone_is_told_and_answers_on_until_there_is_another(followed, starter, tmp_path):
    memory, folder, said = followed
    before = memory.current
    away = folder.rename(tmp_path / "away")
    memory.refresh()
    memory.refresh()
    assert memory.current is before
    assert memory.problem == "the memory is gone or cannot be reached"
    assert said == ["the memory is gone or cannot be reached; version 1 answers on"]
    away.rename(folder)
    memory.refresh()
    assert (memory.problem, memory.current) == (None, before)
    assert said[1:] == ["the memory is back, unchanged: version 1, 32 categories"]
    folder.rename(away)
    memory.refresh()
    shutil.copytree(away, folder)
    Memory.open(folder).remove(["astronaut"])
    memory.refresh()
    assert (memory.problem, memory.current.number) == (None, 2)
    assert said[3:] == ["took the changed memory: version 2, 31 categories"]


def test_without_a_memory_there_is_nothing_to_follow(starter, tmp_path):
    with pytest.raises(MemoryNotFound):
        FollowedMemory(tmp_path / "none", lambda opened, before: Recognizer(starter, opened), print)
