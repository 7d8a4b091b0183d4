import numpy as np

from memory import Category, Description, Memory
from memory.tables import category_batches
from memory.texts import BuildTexts
from tests.memory.building import build, exemplar_set, stored


def mean_vector(encoder, texts):
    rows = np.mean([encoder.vector(text) for text in texts], axis=0)
    return stored(rows / np.linalg.norm(rows))


def test_vectors_are_the_normalised_means_of_their_texts(categories, directory, encoder):
    build(categories, directory, encoder)
    vectors = Memory.open(directory).vectors
    assert [c.id for c in vectors.categories] == sorted(c.id for c in categories)
    rows = {(c.name, c.group): i for i, c in enumerate(vectors.categories)}
    cat, dog, machine = rows["cat", ""], rows["dog", ""], rows["crane", "machine"]
    np.testing.assert_allclose(vectors.names[cat], mean_vector(encoder, ["a photo of a cat.", "cat"]), atol=1e-6)
    first = vectors.offsets[cat]
    grounded = mean_vector(encoder, ["a photo of a cat, whiskers.", "cat, whiskers"])
    np.testing.assert_allclose(vectors.grounded[first], grounded, atol=1e-6)
    np.testing.assert_array_equal(vectors.bare[first], stored(encoder.vector("whiskers")))
    assert list(vectors.descriptions[first : first + 2]) == ["whiskers", "It is furry."]
    assert vectors.offsets[dog] == vectors.offsets[dog + 1]
    sentence = vectors.offsets[machine]
    np.testing.assert_array_equal(vectors.grounded[sentence], stored(encoder.vector("Cranes lift heavy loads.")))
    np.testing.assert_array_equal(vectors.bare[sentence], stored(encoder.vector("lift heavy loads.")))
    assert {c: c for c in vectors.categories} == {c: c for c in categories}
    assert vectors.names.dtype == np.float32
    assert vectors.names.flags.c_contiguous
    assert not vectors.names.flags.writeable


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
    np.testing.assert_array_equal(vectors.exemplars[part], stored(np.concatenate((first.vectors[3:], more.vectors))))
    memory.remove(["dog"])
    assert Memory.open(directory).info().exemplars == 3
    assert all(finding.ok for finding in memory.verify())


def test_paths_of_exemplars_that_are_not_utf8_are_stored_escaped(categories, directory, encoder):
    examples = exemplar_set(categories[:1], 2)
    examples.references[0] = "caf\udce9.jpg"
    vectors = build(categories, directory, encoder, exemplars=examples).vectors
    assert "caf\\udce9.jpg" in vectors.exemplar_references


def test_more_rows_than_a_batch_are_written_and_read_in_order(directory, encoder, monkeypatch):
    monkeypatch.setattr("memory.tables.BATCH_ROWS", 3)
    monkeypatch.setattr("memory.store.BATCH_ROWS", 4)
    categories = [Category(str(n), descriptions=tuple(Description(f"{n}.{m}") for m in range(12))) for n in range(5)]
    vectors = build(categories, directory, encoder).vectors
    for row, category in enumerate(vectors.categories):
        texts = [f"{category.name}.{m}" for m in range(12)]
        assert [d.text for d in category.descriptions] == texts
        part = slice(vectors.offsets[row], vectors.offsets[row + 1])
        np.testing.assert_array_equal(vectors.bare[part], stored([encoder.vector(text) for text in texts]))


def test_aliases_are_stored_beside_metadata_and_averaged_with_the_name(directory, encoder):
    categories = [
        Category("fox", metadata={"aliases": "a column"}, aliases=("red_fox", "Vulpes")),
        Category("cat", metadata={"wnid": "n02"}),
    ]
    build(categories, directory, encoder)
    memory = Memory.open(directory)
    vectors = memory.vectors
    assert set(vectors.categories) == set(categories)
    fox = vectors.categories.index(categories[0])
    names = ("fox", "red fox", "Vulpes")
    texts = [text for name in names for text in (f"a photo of a {name}.", name)]
    np.testing.assert_allclose(vectors.names[fox], mean_vector(encoder, texts), atol=1e-6)
    memory.add([Category("fox", aliases=("Reineke",)), Category("cat")], encoder=encoder)
    again = Memory.open(directory).vectors.categories
    assert next(c for c in again if c.name == "fox").aliases == ("red_fox", "Vulpes", "Reineke")
    assert all(finding.ok for finding in memory.verify())


def test_metadata_without_aliases_is_a_json_object_as_in_earlier_memories(directory, encoder):
    texts = BuildTexts([Category("cat", metadata={"b": "é", "a": "1"})], ["{}"], encoder.card)
    (batch,) = category_batches(texts, 16, lambda groups: np.zeros((1, 16), np.float32))
    assert batch.column("metadata").to_pylist() == ['{"a": "1", "b": "é"}']
