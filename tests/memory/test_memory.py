import io
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory import (
    BadVectors,
    Category,
    Description,
    EncoderMismatch,
    ExemplarSet,
    Memory,
    MemoryLocked,
    MemoryNotFound,
    MemoryStoreError,
    UnknownCategory,
    read_labels,
)
from memory.durable import WriterLock
from memory.plan import text_keys
from tests.memory.conftest import TEMPLATES
from tests.memory.fake_encoder import FakeEncoder


def build(categories, directory, encoder, **options):
    return Memory.build(categories, directory, encoder=encoder, templates=TEMPLATES, **options)


def exported(memory, *, vectors=True):
    stream = io.StringIO()
    memory.export(stream, vectors=vectors)
    return stream.getvalue()


def mean_vector(encoder, texts):
    rows = np.mean([encoder.vector(text) for text in texts], axis=0)
    return rows / np.linalg.norm(rows)


def test_vectors_are_the_normalised_means_of_their_texts(categories, directory, encoder):
    build(categories, directory, encoder)
    vectors = Memory.open(directory).vectors
    assert [c.id for c in vectors.categories] == sorted(c.id for c in categories)
    rows = {(c.name, c.group): i for i, c in enumerate(vectors.categories)}
    cat, dog, machine = rows["cat", ""], rows["dog", ""], rows["crane", "machine"]
    np.testing.assert_allclose(vectors.names[cat], mean_vector(encoder, ["a photo of a cat.", "cat"]), atol=1e-6)
    first = vectors.offsets[cat]
    grounded = mean_vector(encoder, ["a photo of a cat, which has whiskers.", "cat, which has whiskers"])
    np.testing.assert_allclose(vectors.grounded[first], grounded, atol=1e-6)
    np.testing.assert_array_equal(vectors.bare[first], encoder.vector("whiskers"))
    assert list(vectors.descriptions[first : first + 2]) == ["whiskers", "It is furry."]
    assert vectors.offsets[dog] == vectors.offsets[dog + 1]
    sentence = vectors.offsets[machine]
    np.testing.assert_array_equal(vectors.grounded[sentence], encoder.vector("Cranes lift heavy loads."))
    np.testing.assert_array_equal(vectors.bare[sentence], encoder.vector("lift heavy loads."))
    assert {c: c for c in vectors.categories} == {c: c for c in categories}
    assert vectors.names.dtype == np.float32
    assert vectors.names.flags.c_contiguous
    assert not vectors.names.flags.writeable


def test_building_again_encodes_nothing_and_gives_the_same_memory(categories, directory, encoder):
    first = build(categories, directory, encoder)
    before = exported(Memory.open(directory))
    second = build(list(reversed(categories)), directory, encoder)
    assert (first.texts_encoded, first.texts_reused) == (len(encoder.texts), 0)
    assert (second.texts_encoded, second.texts_reused) == (0, first.texts_encoded)
    assert (second.categories, second.descriptions) == (4, 4)
    assert exported(Memory.open(directory)) == before
    assert Memory.open(directory).version == 2


def test_every_distinct_text_is_encoded_once(directory, encoder):
    described = [Category(name, descriptions=(Description("red"), Description("blue"))) for name in ("a", "b", "c")]
    build(described, directory, encoder)
    assert len(encoder.texts) == len(set(encoder.texts))
    assert encoder.texts.count("red") == 1


def test_truncated_texts_are_counted_once(directory, encoder):
    report = build([Category("x" * 99), Category("y" * 200)], directory, encoder)
    assert report.texts_truncated == 3  # "a photo of a xxx…" is longer than 100, "xxx…" is not


def test_adding_encodes_exactly_the_new_texts(categories, directory, encoder):
    build(categories, directory, encoder)
    encoder.calls.clear()
    memory = Memory.open(directory)
    report = memory.add([Category("emu", descriptions=(Description("whiskers"),))], encoder=encoder)
    assert sorted(encoder.texts) == [
        "a photo of a emu, which has whiskers.",
        "a photo of a emu.",
        "emu",
        "emu, which has whiskers",
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
    monkeypatch.setattr("memory.build._MAX_TABLE_FILES", 8)
    build([Category("0", descriptions=(Description("zero"),))], directory, encoder)
    memory = Memory.open(directory)
    for number in range(1, 6):
        memory.add([Category(str(number), descriptions=(Description("some"),))], encoder=encoder)
        assert all(len(table.files) <= 10 for table in memory._manifest.tables.values())
    assert sorted(c.name for c in Memory.open(directory).vectors.categories) == ["0", "1", "2", "3", "4", "5"]
    assert all(finding.ok for finding in Memory.open(directory).verify())


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
    with pytest.raises(UnknownCategory, match="fits 2 categories; give the id"):
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
    assert memory.index().categories.search(np.ones((2, 16), np.float32), 3)[1].shape == (2, 0)
    assert exported(memory) == ""
    memory.add(categories[:1], encoder=encoder)
    assert [c.name for c in Memory.open(directory).vectors.categories] == ["cat"]


def test_another_encoder_is_refused_by_add_and_starts_anew_in_build(categories, directory, encoder):
    build(categories, directory, encoder)
    other = FakeEncoder(name="other", dim=8)
    with pytest.raises(EncoderMismatch, match=r"made by the encoder 'fake' .* not by 'other'"):
        Memory.open(directory).add([Category("emu")], encoder=other)
    report = build(categories, directory, other)
    assert report.texts_reused == 0
    assert Memory.open(directory).vectors.names.shape == (4, 8)


def test_the_precision_belongs_to_the_keys(encoder):
    other = FakeEncoder(precision="bf16")
    assert text_keys([("a", "b")], encoder.card) != text_keys([("a", "b")], other.card)
    assert text_keys([("a", "b")], encoder.card) != text_keys([("ab",)], encoder.card)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0, 1e30])
def test_vectors_that_cannot_be_stored_are_refused_by_text(categories, directory, encoder, bad, monkeypatch):
    good = encoder.vector
    monkeypatch.setattr(
        encoder, "vector", lambda text: good(text) * np.float32(bad) if text == "whiskers" else good(text)
    )
    with pytest.raises(BadVectors, match=r"'fake' gave 1 vectors that are not of finite unit length.*'whiskers'"):
        build(categories, directory, encoder)
    with pytest.raises(MemoryNotFound):
        Memory.open(directory)


def test_vectors_of_another_shape_are_refused(categories, directory, encoder, monkeypatch):
    monkeypatch.setattr(encoder, "encode_texts", lambda texts: np.ones((len(texts), 3), np.float32))
    with pytest.raises(BadVectors, match=r"shape \(\d+, 3\) where \(\d+, 16\)"):
        build(categories, directory, encoder)


def test_texts_whose_vectors_cancel_out_are_refused(directory, encoder, monkeypatch):
    good = encoder.vector
    monkeypatch.setattr(encoder, "vector", lambda text: -good("cat") if "photo" in text else good(text))
    with pytest.raises(BadVectors, match=r"'a photo of a cat.' cancel out"):
        build([Category("cat")], directory, encoder)


def test_settings_are_kept_by_a_rebuild_and_rewritten_alone(categories, directory, encoder):
    build(categories, directory, encoder, settings={"rerank": "always"})
    memory = Memory.open(directory)
    memory.settings["score"] = {"name": 0.5}
    memory.save_settings()
    assert Memory.open(directory).version == memory.version == 1
    build(categories, directory, encoder)
    assert Memory.open(directory).settings == {"rerank": "always", "score": {"name": 0.5}}
    build(categories, directory, FakeEncoder(name="other"))
    assert Memory.open(directory).settings == {}
    with pytest.raises(ValueError, match="must be JSON"):
        memory.save_settings({"a": float("nan")})


def exemplar_set(categories, count, seed=0):
    rows = np.random.default_rng(seed).standard_normal((len(categories) * count, 16)).astype(np.float32)
    ids = [category.id for category in categories for _ in range(count)]
    names = [f"{seed}/{i}.jpg" for i in range(len(ids))]
    return ExemplarSet(ids, names, [f"{i:064x}" for i in range(len(ids))], rows / np.linalg.norm(rows, axis=1)[:, None])


def test_exemplars_belong_to_their_categories(categories, directory, encoder):
    first = exemplar_set(categories[:2], 3)
    build(categories, directory, encoder, exemplars=first)
    memory = Memory.open(directory)
    more = exemplar_set(categories[1:2], 2, seed=1)
    memory.add(categories[:1], encoder=encoder, exemplars=more)
    vectors = Memory.open(directory).vectors
    for category, references in (
        (categories[0], first.references[:3]),
        (categories[1], first.references[3:] + more.references),
    ):
        row = [c.id for c in vectors.categories].index(category.id)
        part = slice(vectors.exemplar_offsets[row], vectors.exemplar_offsets[row + 1])
        assert vectors.exemplar_references[part] == references
        assert vectors.categories[row].exemplars == tuple(references)
    row = [c.id for c in vectors.categories].index(categories[1].id)
    part = slice(vectors.exemplar_offsets[row], vectors.exemplar_offsets[row + 1])
    np.testing.assert_array_equal(vectors.exemplars[part], np.concatenate((first.vectors[3:], more.vectors)))
    memory.remove(["dog"])
    assert Memory.open(directory).info().exemplars == 3
    assert all(finding.ok for finding in memory.verify())


def test_exemplars_without_category_or_with_bad_vectors_are_refused(categories, directory, encoder):
    with pytest.raises(MemoryStoreError, match="not among the categories"):
        build(categories[:1], directory, encoder, exemplars=exemplar_set(categories, 1))
    bad = exemplar_set(categories, 1)
    bad.vectors[2] = 0
    with pytest.raises(BadVectors, match=r"0/2.jpg"):
        build(categories, directory, encoder, exemplars=bad)


def test_the_export_can_be_read_as_a_label_file(categories, directory, encoder, tmp_path):
    build(categories, directory, encoder)
    for vectors in (False, True):
        path = tmp_path / "export.jsonl"
        path.write_text(exported(Memory.open(directory), vectors=vectors), encoding="utf-8", newline="\n")
        back = read_labels(path, key="name,group")
        assert sorted(back, key=lambda c: c.id) == sorted(categories, key=lambda c: c.id)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(NAMES, NAMES), min_size=1, max_size=5, unique_by=lambda pair: unicodedata.normalize("NFC", pair[0])
    )
)
def test_any_name_survives_build_export_and_reading(tmp_path_factory, pairs):
    directory = tmp_path_factory.mktemp("memory")
    categories = [
        Category(unicodedata.normalize("NFC", name), descriptions=(Description(text),)) for name, text in pairs
    ]
    build(categories, directory / "m", FakeEncoder())
    memory = Memory.open(directory / "m")
    assert sorted(memory.vectors.categories, key=lambda c: c.id) == sorted(categories, key=lambda c: c.id)
    path = directory / "export.jsonl"
    path.write_text(exported(memory, vectors=False), encoding="utf-8", newline="\n")
    assert {c.name: c for c in read_labels(path)} == {c.name: c for c in categories}


def test_info_says_what_there_is(categories, directory, encoder):
    build(categories, directory, encoder)
    info = Memory.open(directory).info()
    assert (info.version, info.categories, info.descriptions, info.exemplars, info.dim) == (1, 4, 4, 0, 16)
    assert info.encoder == encoder.card
    assert info.templates == TEMPLATES
    assert info.index == "exact"
    assert info.bytes_on_disk == sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def test_a_second_writer_is_told_who_writes(categories, directory, encoder, monkeypatch):
    build(categories, directory, encoder)
    memory = Memory.open(directory)
    monkeypatch.setattr("memory.durable._POLL_SECONDS", 0.001)
    with WriterLock(directory):
        import os

        with (
            pytest.raises(MemoryLocked, match=rf"written by process {os.getpid()}"),
            WriterLock(directory, wait_seconds=0),
        ):
            pass
        assert Memory.open(directory).version == 1
    memory.remove(["dog"])


def test_writers_see_what_others_published(categories, directory, encoder):
    build(categories, directory, encoder)
    one, two = Memory.open(directory), Memory.open(directory)
    one.remove(["dog"])
    two.add([Category("emu")], encoder=encoder)
    one.save_settings({"a": 1})
    memory = Memory.open(directory)
    assert sorted(c.name for c in memory.vectors.categories) == ["cat", "crane", "crane", "emu"]
    assert memory.settings == {"a": 1}


def test_an_open_memory_outlives_one_rewrite_and_says_when_it_is_gone(categories, directory, encoder):
    build(categories, directory, encoder)
    early, late = Memory.open(directory), Memory.open(directory)
    build(categories[:1], directory, encoder)
    assert len(early.vectors.categories) == 4
    build(categories[:1], directory, encoder)
    with pytest.raises(MemoryStoreError, match="Open the memory again"):
        _ = late.vectors


def test_no_category_is_no_memory_and_foreign_folders_are_left_alone(categories, directory, encoder):
    with pytest.raises(ValueError, match="at least one category"):
        build([], directory, encoder)
    directory.mkdir()
    (directory / "holiday.jpg").touch()
    with pytest.raises(MemoryStoreError, match=r"holds other files \(holiday.jpg\) and no memory"):
        build(categories, directory, encoder)
    with pytest.raises(MemoryNotFound, match="recognizer build"):
        Memory.open(directory)


def test_categories_that_cannot_be_stored_are_refused():
    for name in ("", "a\0b", "\ud800"):
        with pytest.raises(ValueError, match="name"):
            Category(name)


def test_duplicates_are_merged_by_build(directory, encoder):
    report = build([Category("a", descriptions=(Description("x"),)), Category("a")], directory, encoder)
    assert (report.categories, report.descriptions) == (1, 1)
    assert json.loads(exported(Memory.open(directory)))["name"] == "a"
