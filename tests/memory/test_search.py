import numpy as np
import pytest

from memory import Category, Description, Memory
from memory.manifest import read_manifest
from memory.search import Fold, build_hnsw, description_rows, exact_index, load_hnsw
from tests.memory.building import build, stored


def test_a_stale_or_damaged_index_is_built_again(categories, directory, encoder):
    report = build(categories, directory, encoder, index="hnsw").report
    assert report.ann_recall == 1.0
    memory = Memory.open(directory)
    assert memory.info().index_recall == {"categories": 1.0, "descriptions": 1.0}
    assert memory.verify()[-1].ok

    memory.remove(["dog"])
    assert not memory.verify()[-1].ok
    assert memory.info().index_recall == {}
    assert memory.index().categories.size == 3
    assert memory.verify()[-1].ok
    assert Memory.open(directory).info().index_recall == {"categories": 1.0, "descriptions": 1.0}

    for name in ("categories.hnsw", "descriptions.hnsw", "INDEX.json"):
        path = directory / "index" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert not memory.verify()[-1].ok
        assert memory.index().descriptions.size == 4
        assert memory.verify()[-1].ok

    folded = memory.index(Fold(2.0, 0.0))
    np.testing.assert_allclose(folded.categories.search(memory.vectors.names, 1)[0], 2.0, rtol=1e-3)
    build(categories, directory, encoder)
    assert not (directory / "index").exists()


def test_a_category_without_descriptions_is_found_by_its_name_among_descriptions(categories, directory, encoder):
    for kind in ("exact", "hnsw"):
        build(categories, directory, encoder, index=kind)
        memory = Memory.open(directory)
        index = memory.index()
        dog = [c.name for c in memory.vectors.categories].index("dog")
        _, rows = index.descriptions.search(memory.vectors.names[dog : dog + 1], 1)
        assert index.description_categories[rows[0, 0]] == dog
        assert index.descriptions.size == len(index.description_categories) == 5
        _, rows = index.descriptions.search(memory.vectors.bare, 1)
        owners = np.repeat(np.arange(4), np.diff(memory.vectors.offsets))
        assert index.description_categories[rows[:, 0]].tolist() == owners.tolist()


def test_a_fold_weighs_names_and_the_means_of_descriptions(categories, directory, encoder):
    vectors = build(categories, directory, encoder).vectors
    rows = Fold(0.25, 0.75).rows(vectors)
    for row in range(4):
        own = vectors.grounded[vectors.offsets[row] : vectors.offsets[row + 1]]
        mean = own.mean(axis=0) if len(own) else vectors.names[row]
        np.testing.assert_allclose(rows[row], 0.25 * vectors.names[row] + 0.75 * mean, atol=1e-6)
    assert len({Fold().key, Fold(0.25, 0.75).key, Fold(0.75, 0.25).key, Fold(0.25, 0.7500001).key}) == 3


def test_an_index_is_read_only_for_its_fold_and_its_tables(categories, directory, encoder):
    memory = build(categories, directory, encoder, index="hnsw", fold=Fold(0.2, 0.3))
    manifest = read_manifest(directory)
    assert memory.index_kind == manifest.index.kind == "hnsw"
    assert manifest.index.fold_key == Fold(0.2, 0.3).key
    loaded = load_hnsw(directory, memory.vectors, manifest, Fold(0.2, 0.3))
    exact = exact_index(memory.vectors, Fold(0.2, 0.3))
    for part in ("categories", "descriptions"):
        queries = memory.vectors.names
        scores, rows = getattr(loaded, part).search(queries, 3)
        expected_scores, expected_rows = getattr(exact, part).search(queries, 3)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert load_hnsw(directory, memory.vectors, manifest, Fold()) is None
    memory.remove(["dog"])
    assert load_hnsw(directory, memory.vectors, read_manifest(directory), Fold(0.2, 0.3)) is None


def test_the_recall_is_measured_against_exact_search(directory, encoder, monkeypatch):
    vectors = build([Category(str(n)) for n in range(60)], directory, encoder).vectors
    assert build_hnsw(vectors, Fold()).recall == {"categories": 1.0, "descriptions": 1.0}
    monkeypatch.setattr("memory.search.recall_at_k", lambda *_: 0.54321)
    assert build_hnsw(vectors, Fold()).recall == {"categories": 0.5432, "descriptions": 0.5432}
    memory = build([Category(str(n)) for n in range(60)], directory, encoder, index="hnsw")
    assert memory.report.ann_recall == 0.5432
    with pytest.raises(ValueError, match="neither 'exact' nor 'hnsw'"):
        build([Category("1")], directory, encoder, index="flat")


def test_rows_of_the_description_index_are_descriptions_then_names_of_categories_without(directory, encoder):
    categories = [Category(str(n), descriptions=(Description(f"d{n}"),) * (n % 2)) for n in range(8)]
    vectors = build(categories, directory, encoder).vectors
    rows, owners = description_rows(vectors)
    names = [vectors.categories[owner].name for owner in owners]
    assert sorted(names[:4]) == ["1", "3", "5", "7"]
    assert sorted(names[4:]) == ["0", "2", "4", "6"]
    expected = [stored(encoder.vector(f"d{name}")) for name in names[:4]] + [
        vectors.names[owner] for owner in owners[4:]
    ]
    np.testing.assert_array_equal(rows, expected)
