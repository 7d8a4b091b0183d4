import numpy as np
import pytest

from memory import Category, Memory, MemoryDamaged, NegativeLabels
from memory.manifest import read_manifest
from tests.memory.building import TEMPLATES, build, exported

NAMES = ("tractor", "oboe", "dog", "waffle")


def not_a_name(categories):
    names = {category.name for category in categories}
    return np.array([name not in names for name in NAMES])


NEGATIVES = NegativeLabels(NAMES, not_a_name)


def mean_vector(encoder, name):
    rows = sum(encoder.vector(template.replace("{}", name).replace("{c}", name)) for template in TEMPLATES)
    return (rows / np.linalg.norm(rows)).astype(np.float16).astype(np.float32)


def test_chosen_candidates_are_stored_under_the_templates_and_checked(directory, encoder):
    memory = build([Category("dog"), Category("fox")], directory, encoder, negatives=NEGATIVES)
    stored = Memory.open(directory).vectors
    assert stored.negative_names == ["tractor", "oboe", "waffle"]
    for name, vector in zip(stored.negative_names, stored.negatives, strict=True):
        assert vector == pytest.approx(mean_vector(encoder, name), abs=1e-6)
    assert Memory.open(directory).info().negatives == 4
    assert all(finding.ok for finding in memory.verify())
    assert [c.name for c in stored.take(np.array([0])).categories] != stored.take(np.array([0])).negative_names
    assert stored.take(np.array([0])).negative_names == stored.negative_names


def test_the_choice_sees_all_categories(directory, encoder):
    seen = []

    def remember(categories):
        seen.append({category.name for category in categories})
        return not_a_name(categories)

    negatives = NegativeLabels(NAMES, remember)
    build([Category("dog"), Category("fox")], directory, encoder, negatives=negatives)
    Memory.open(directory).add(
        [Category("emu"), Category("fox", aliases=("reynard",))], encoder=encoder, negatives=negatives
    )
    assert seen == [{"dog", "fox"}, {"dog", "emu", "fox"}]


def test_an_addition_encodes_its_own_texts_alone_and_chooses_again(directory, encoder):
    build([Category("dog")], directory, encoder, negatives=NEGATIVES)
    memory = Memory.open(directory)
    encoder.calls.clear()
    memory.add([Category("oboe")], encoder=encoder, negatives=NEGATIVES)
    assert encoder.texts == []  # the candidate's vector is the name's
    memory.add([Category("emu")], encoder=encoder, negatives=NEGATIVES)
    assert all("emu" in text for text in encoder.texts)
    added = Memory.open(directory).vectors
    assert added.negative_names == ["tractor", "waffle"]
    memory.remove(["oboe"])
    assert Memory.open(directory).vectors.negative_names == ["tractor", "waffle"]
    fresh = build([Category("dog"), Category("emu")], directory, encoder, negatives=NEGATIVES)
    assert fresh.vectors.negative_names == ["tractor", "oboe", "waffle"]
    assert all("emu" in text for text in encoder.texts)


def test_without_candidates_an_edit_drops_them(directory, encoder):
    build([Category("dog")], directory, encoder, negatives=NEGATIVES)
    Memory.open(directory).add([Category("emu")], encoder=encoder)
    memory = Memory.open(directory)
    assert (memory.vectors.negative_names, memory.info().negatives) == ([], 0)
    assert "negatives" not in read_manifest(directory).tables
    assert all(finding.ok for finding in memory.verify())
    memory.add([Category("fox")], encoder=encoder, negatives=NEGATIVES)
    assert Memory.open(directory).vectors.negative_names == ["tractor", "oboe", "waffle"]
    build([Category("dog")], directory, encoder)
    assert Memory.open(directory).info().negatives == 0


def test_a_memory_without_them_has_the_tables_of_earlier_releases(directory, encoder):
    build([Category("dog")], directory, encoder)
    assert set(read_manifest(directory).tables) == {"categories"}
    assert Memory.open(directory).vectors.negatives.shape[0] == 0


def test_texts_of_a_killed_build_are_not_encoded_again(directory, encoder, monkeypatch):
    monkeypatch.setattr("memory.encode.CHUNK_TEXTS", 3)
    killed = type(encoder)(fail_after_chunks=2)
    with pytest.raises(InterruptedError):
        build([Category("dog")], directory, killed, negatives=NEGATIVES)
    build([Category("dog")], directory, encoder, negatives=NEGATIVES)
    assert len(killed.texts) == 6
    assert not set(killed.texts) & set(encoder.texts)


def test_damage_is_seen_and_mended_by_the_next_build(directory, encoder):
    build([Category("dog")], directory, encoder, negatives=NEGATIVES)
    before = exported(Memory.open(directory))
    [file] = [name for name in read_manifest(directory).tables["negatives"].files if name.endswith(".lance")]
    data = bytearray((directory / file).read_bytes())
    data[10] ^= 255
    (directory / file).write_bytes(data)
    with pytest.raises(MemoryDamaged, match="negatives"):
        Memory.open(directory)
    assert any(line.startswith("negatives: lost: 4 rows") for line in Memory.repair(directory))
    encoder.calls.clear()
    build([Category("dog")], directory, encoder, negatives=NEGATIVES)
    assert encoder.texts == []  # the flat copy has the vectors
    assert exported(Memory.open(directory)) == before
    assert Memory.open(directory).vectors.negative_names == ["tractor", "oboe", "waffle"]
