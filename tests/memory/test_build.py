import json
import os
import random

import pytest

from memory import BadVectors, Category, Description, EncoderMismatch, Memory, MemoryNotFound, MemoryStoreError
from memory.errors import WriteFailed
from memory.manifest import read_manifest
from memory.store import TableStore
from tests.campaign.kill_build import survive
from tests.memory.building import build, exemplar_set, exported
from tests.memory.fake_encoder import FakeEncoder

_KILLS = int(os.environ.get("MEMORY_KILLS", "3"))


def test_building_again_encodes_nothing_and_gives_the_same_memory(categories, directory, encoder):
    first = build(categories, directory, encoder).report
    before = exported(Memory.open(directory))
    second = build(list(reversed(categories)), directory, encoder).report
    assert (first.texts_encoded, first.texts_reused) == (len(encoder.texts), 0)
    assert (second.texts_encoded, second.texts_reused, second.unchanged) == (0, 0, True)
    assert (second.categories, second.descriptions) == (4, 4)
    assert exported(Memory.open(directory)) == before
    assert Memory.open(directory).version == 1
    (directory / "flat" / "FLAT.json").unlink()  # what is missing is made, from what is there
    third = build(categories, directory, encoder).report
    assert (third.texts_encoded, third.texts_reused, third.unchanged) == (0, first.texts_encoded, False)
    assert exported(Memory.open(directory)) == before


def test_duplicates_are_merged_by_build(directory, encoder):
    report = build([Category("a", descriptions=(Description("x"),)), Category("a")], directory, encoder).report
    assert (report.categories, report.descriptions) == (1, 1)
    assert json.loads(exported(Memory.open(directory)))["name"] == "a"


def test_truncated_texts_are_counted_once(directory, encoder):
    report = build([Category("x" * 99), Category("y" * 200)], directory, encoder).report
    assert report.texts_truncated == 3  # "a photo of a xxx…" is longer than 100, "xxx…" is not


def test_adding_encodes_exactly_the_new_texts(categories, directory, encoder):
    build(categories, directory, encoder)
    encoder.calls.clear()
    memory = Memory.open(directory)
    memory.add([Category("emu", descriptions=(Description("whiskers"),))], encoder=encoder)
    report = memory.report
    assert sorted(encoder.texts) == [
        "a photo of a emu, whiskers.",
        "a photo of a emu.",
        "emu",
        "emu, whiskers",
    ]
    assert (report.texts_encoded, report.texts_reused) == (4, 1)
    whole = FakeEncoder()
    other = directory.with_name("other")
    build([*categories, Category("emu", descriptions=(Description("whiskers"),))], other, whole)
    assert exported(Memory.open(other)) == exported(Memory.open(directory)) == exported(memory)


def test_adding_to_a_category_unites_its_descriptions(categories, directory, encoder):
    build(categories, directory, encoder)
    memory = Memory.open(directory)
    encoder.calls.clear()
    memory.add([Category("cat", descriptions=(Description("whiskers"), Description("claws")))], encoder=encoder)
    assert [text for text in encoder.texts if "claws" not in text] == []
    [cat] = [c for c in Memory.open(directory).vectors.categories if c.name == "cat"]
    assert [d.text for d in cat.descriptions] == ["whiskers", "It is furry.", "claws"]
    assert all(finding.ok for finding in memory.verify())


def test_many_additions_are_gathered_into_few_files(directory, encoder, monkeypatch):
    monkeypatch.setattr("memory.build.MAX_TABLE_FILES", 8)
    build([Category("0", descriptions=(Description("zero"),))], directory, encoder)
    memory = Memory.open(directory)
    for number in range(1, 6):
        memory.add([Category(str(number), descriptions=(Description("some"),))], encoder=encoder)
        assert all(len(table.files) <= 10 for table in read_manifest(directory).tables.values())
    assert sorted(c.name for c in Memory.open(directory).vectors.categories) == ["0", "1", "2", "3", "4", "5"]
    assert all(finding.ok for finding in Memory.open(directory).verify())


def test_another_encoder_is_refused_by_add_and_starts_anew_in_build(categories, directory, encoder):
    build(categories, directory, encoder)
    other = FakeEncoder(name="other", dim=8)
    with pytest.raises(EncoderMismatch, match=r"made by the encoder 'fake' .* not by 'other'"):
        Memory.open(directory).add([Category("emu")], encoder=other)
    report = build(categories, directory, other).report
    assert report.texts_reused == 0
    assert Memory.open(directory).vectors.names.shape == (4, 8)


def test_exemplars_without_category_or_with_bad_vectors_are_refused(categories, directory, encoder):
    with pytest.raises(MemoryStoreError, match="not among the categories"):
        build(categories[:1], directory, encoder, exemplars=exemplar_set(categories, 1))
    bad = exemplar_set(categories, 1)
    bad.vectors[2] = 0
    with pytest.raises(BadVectors, match=r"0/2.jpg"):
        build(categories, directory, encoder, exemplars=bad)


def test_no_category_is_no_memory_and_foreign_folders_are_left_alone(categories, directory, encoder):
    with pytest.raises(ValueError, match="at least one category"):
        build([], directory, encoder)
    directory.mkdir()
    (directory / "holiday.jpg").touch()
    with pytest.raises(MemoryStoreError, match=r"holds other files \(holiday.jpg\) and no memory"):
        build(categories, directory, encoder)
    with pytest.raises(MemoryNotFound, match="recognizer build"):
        Memory.open(directory)


def test_settings_stay_when_the_same_encoder_builds_again(categories, directory, encoder):
    settings = {"rerank": "always", "score": {"name": 0.5}}
    memory = build(categories, directory, encoder, settings=settings)
    memory.settings["score"]["name"] = 1.0
    assert memory.settings == Memory.open(directory).settings == settings
    build(categories, directory, encoder)
    assert Memory.open(directory).settings == settings
    build(categories, directory, encoder, settings={})
    assert Memory.open(directory).settings == {}
    build(categories, directory, encoder, settings=settings)
    build(categories, directory, FakeEncoder(name="other"))
    assert Memory.open(directory).settings == {}
    with pytest.raises(ValueError, match="must be JSON"):
        build(categories, directory, encoder, settings={"a": float("nan")})


def test_a_write_that_was_not_published_is_not_served_and_is_cleared_away(built, categories, encoder, monkeypatch):
    before = exported(Memory.open(built))

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("memory.build.write_manifest", fail)
        with pytest.raises(OSError, match="no space"):
            build(categories[:1], built, encoder)
        with pytest.raises(OSError, match="no space"):
            Memory.open(built).add(categories[1:2], encoder=encoder)
    assert exported(Memory.open(built)) == before
    Memory.open(built).remove(["cat"])
    left = {p for p in built.rglob("*.lance/*/*") if p.name != "latest_version_hint.json"}
    assert sorted(c.name for c in Memory.open(built).vectors.categories) == ["crane", "crane"]
    build(categories, built, encoder)
    build(categories[:3], built, encoder)
    assert not {p for p in left if p.exists()}


def test_an_edit_that_fails_leaves_no_file_in_any_table(built, encoder, monkeypatch):
    memory = Memory.open(built)
    names = {category.name for category in memory.vectors.categories}
    before = {path for path in built.rglob("*") if path.is_file()}
    failing, append = [], TableStore.append

    def fail_at_descriptions(store, name, *rest):
        failing.append(name)
        if name == "descriptions":
            raise WriteFailed("full")
        return append(store, name, *rest)

    ibis = Category("ibis", descriptions=(Description("whiskers"),))
    with monkeypatch.context() as patch:
        patch.setattr(TableStore, "append", fail_at_descriptions)
        with pytest.raises(WriteFailed, match="full"):
            memory.add([ibis], encoder=encoder)
    assert failing == ["categories", "descriptions"]
    assert {path.name for path in built.rglob("*") if path.is_file() and path not in before} <= {"vectors.journal"}
    memory.add([ibis], encoder=encoder)
    assert {category.name for category in Memory.open(built).vectors.categories} == names | {"ibis"}
    assert all(finding.ok for finding in memory.verify())


def test_killed_builds_leave_the_old_memory_or_the_new_one(tmp_path):
    assert survive(tmp_path, _KILLS, seed=random.randrange(10**6))["kills"] == _KILLS


def test_the_report_is_that_of_the_last_build_or_addition(categories, directory, encoder):
    memory = build(categories, directory, encoder)
    assert (memory.report.categories, memory.report.descriptions, memory.report.ann_recall) == (4, 4, None)
    assert memory.report.seconds > 0
    with pytest.raises(ValueError, match="no build report"):
        _ = Memory.open(directory).report
    memory.add([Category("emu")], encoder=encoder)
    assert memory.report.categories == 1


def test_what_build_returns_is_the_memory_that_open_finds(categories, directory, encoder):
    memory = build(categories, directory, encoder)
    assert exported(memory) == exported(Memory.open(directory))
    assert memory.info() == Memory.open(directory).info()
    assert all(finding.ok for finding in memory.verify())


def test_progress_counts_texts_up_to_all_of_them(categories, directory, encoder, monkeypatch):
    monkeypatch.setattr("memory.encode.CHUNK_TEXTS", 5)
    calls = []
    build(categories, directory, encoder, progress=lambda done, total: calls.append((done, total)))
    count = len(encoder.texts)
    assert calls == [(done, count) for done in [*range(0, count, 5), count]]


def test_what_a_killed_first_build_leaves_is_no_foreign_file(categories, directory, encoder):
    directory.mkdir()
    for name in (".MEMORY.json.part", "vectors.journal", "memory.lock"):
        (directory / name).touch()
    assert build(categories, directory, encoder).info().categories == 4


def test_a_folder_that_cannot_be_made_is_refused(categories, tmp_path, encoder):
    (tmp_path / "file").touch()
    with pytest.raises(MemoryStoreError, match="cannot be used as a memory"):
        build(categories, tmp_path / "file" / "memory", encoder)
