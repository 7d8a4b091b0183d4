import json
from dataclasses import replace

import numpy as np
import pytest

from memory import Category, Description, Memory
from memory.index import ExactIndex
from memory.manifest import read_manifest
from memory.mapped import DamagedBlock
from memory.sealed import seal, unseal
from memory.search import Fold, JointRows, choose_kind, exact_index, open_index
from memory.search.kinds import HnswIndex, IvfIndex, sample
from memory.search.proposals import MemoryIndex
from tests.memory.building import build
from tests.memory.fake_encoder import FakeEncoder

FOLD = Fold(0.2, 0.2, 0.3, 0.3)


def many(numbers):
    return [Category(f"thing {n}", descriptions=tuple(Description(f"d{n} {j}") for j in range(n % 3))) for n in numbers]


def rows_of(count, dim=24, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def flip(path, place=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)


def stored_file(directory, role):
    card = unseal((directory / "index" / "INDEX.json").read_bytes())
    return directory / "index" / card[role]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return build(many(range(40)), tmp_path_factory.mktemp("m") / "memory", FakeEncoder()).vectors


def agrees_with_exact(memory, fold, share=0.95):
    """Whether the memory's index finds the best categories of its names, by their products."""
    index, queries = memory.index(fold), rows_of(30, 32, seed=5)
    _, rows = index.search(queries, 5)
    expected, _ = exact_index(memory.vectors, fold).search(queries, 5)
    there = rows >= 0
    products = np.einsum("qkd,qd->qk", JointRows(memory.vectors, fold).take(rows.ravel()).reshape(30, 5, -1), queries)
    return index.size == len(memory.vectors.names) and (products >= expected[:, -1:] - 1e-3)[there].mean() >= share


def test_a_row_is_the_weighted_name_and_mean_description_beside_an_image_and_a_region(vectors):
    rows = JointRows(vectors, FOLD)
    assert rows.shape == (40, 32)
    for row in range(40):
        own = slice(vectors.offsets[row], vectors.offsets[row + 1])
        name, empty = vectors.names[row], own.start == own.stop
        grounded = name if empty else vectors.grounded[own].mean(axis=0)
        bare = name if empty else vectors.bare[own].mean(axis=0)
        expected = np.concatenate([0.2 * name + 0.2 * grounded, 0.3 * name + 0.3 * bare])
        np.testing.assert_allclose(rows.take(np.array([row]))[0], expected, atol=1e-6)
    np.testing.assert_allclose(rows[3:9], rows.take(np.arange(3, 9)), atol=1e-6)
    np.testing.assert_allclose(FOLD.rows(vectors), rows[0:40][:, :16], atol=1e-6)
    assert JointRows(vectors, Fold(0.5, 0.5)).shape == (40, 16)


def test_a_query_is_an_image_beside_each_of_its_regions():
    images, regions = rows_of(2, 4), [rows_of(3, 4, seed=1), rows_of(1, 4, seed=2)]
    queries, stops = FOLD.queries(images, regions)
    assert stops.tolist() == [0, 3, 4]
    np.testing.assert_array_equal(queries[1], np.concatenate([images[0], regions[0][1]]))
    np.testing.assert_array_equal(queries[3], np.concatenate([images[1], regions[1][0]]))
    queries, stops = Fold().queries(images, regions)
    assert stops.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(queries, images)


def test_the_key_of_a_fold_changes_with_each_weight():
    weights = (0.2, 0.2, 0.3, 0.3)
    others = {Fold(*(w + 0.01 * (place == n) for n, w in enumerate(weights))).key for place in range(4)}
    assert len({Fold(*weights).key, *others}) == 5


def test_each_region_proposes_its_nearest_categories(vectors):
    index = exact_index(vectors, FOLD)
    images, regions = vectors.names[[3]], [vectors.names[[3, 8]]]
    for k in (1, 2):
        best = ExactIndex(JointRows(vectors, FOLD)).search(FOLD.queries(images, regions)[0], k)[1]
        (found,) = index.propose(images, regions, k)
        assert found.tolist() == sorted(set(best.ravel().tolist()))
    assert index.propose(images, regions, 40)[0].tolist() == list(range(40))


def test_removed_slots_are_skipped_and_added_categories_compared():
    rows = rows_of(200)
    owners = np.arange(200)
    owners[:50] = -1  # a whole family, nearest to the query
    rows[:50] = rows[199]
    index = MemoryIndex("exact", Fold(), ExactIndex(rows), owners, np.array([200, 201]), rows[[199, 3]])
    scores, found = index.search(rows[[199]], 4)
    assert set(found[0, :2].tolist()) == {199, 200}
    assert not set(found[0].tolist()) & set(range(50))
    np.testing.assert_allclose(scores[0], rows_of(200)[199] @ np.vstack([rows, rows[[199, 3]]])[found[0]].T, atol=1e-5)
    assert index.size == 152


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "lance"])
def test_an_index_is_stored_and_follows_edits(kind, directory, encoder):
    share = 0.85 if kind == "lance" else 0.95  # LanceDB draws other centroids each time
    memory = build(many(range(600)), directory, encoder, index=kind, fold=FOLD)
    assert memory.index_kind == kind
    assert memory.info().index_recall == {"search": memory.report.ann_recall}
    assert memory.report.ann_recall >= 0.99
    assert agrees_with_exact(Memory.open(directory), FOLD, share)
    main = stored_file(directory, "main")

    memory.add([Category("new"), Category("thing 6", descriptions=(Description("more"),))], encoder=encoder)
    memory.remove(["thing 7", "thing 8"])
    index = memory.index(FOLD)
    assert stored_file(directory, "main") == main  # the index itself was not written again
    assert (len(index.tail), (index.owners < 0).sum()) == (2, 3)
    assert agrees_with_exact(memory, FOLD, share)
    new = np.array([[category.name for category in memory.vectors.categories].index("new")])
    query = np.concatenate([memory.vectors.names[new]] * 2, axis=1)
    assert index.search(query, 1)[1].tolist() == [new.tolist()]
    assert memory.verify()[-1].ok
    assert len(list((directory / "index").iterdir())) == 3

    memory.remove([f"thing {n}" for n in range(100, 200)])  # more than a tenth
    index = memory.index(FOLD)
    assert stored_file(directory, "main") != main
    assert (index.main.size, len(index.tail)) == (499, 0)
    assert agrees_with_exact(memory, FOLD, share)
    assert len(list((directory / "index").iterdir())) == 3


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_many_added_categories_are_put_into_the_stored_index(kind, directory, encoder, monkeypatch):
    memory = build(many(range(500)), directory, encoder, index=kind, fold=FOLD)
    monkeypatch.setattr("memory.search.stored.MAX_TAIL", 5)
    monkeypatch.setattr(f"memory.search.kinds.{kind.title()}Index.build", None)  # it is extended, not built
    memory.add(many(range(500, 520)), encoder=encoder)
    memory.remove(["thing 3"])
    index = memory.index(FOLD)
    assert len(index.tail) == 0
    assert agrees_with_exact(Memory.open(directory), FOLD)
    assert memory.verify()[-1].ok


def test_a_damaged_stale_or_foreign_index_is_built_again(directory, encoder):
    build(many(range(60)), directory, encoder, index="hnsw", fold=FOLD)
    for role in ("main", "owners", "card"):
        path = directory / "index" / "INDEX.json" if role == "card" else stored_file(directory, role)
        flip(path)
        memory = Memory.open(directory)
        assert not memory.verify()[-1].ok
        assert agrees_with_exact(memory, FOLD)
        assert memory.verify()[-1].ok
    path = stored_file(directory, "main")
    path.write_bytes(path.read_bytes()[:-1])
    assert agrees_with_exact(Memory.open(directory), FOLD)

    card = unseal((directory / "index" / "INDEX.json").read_bytes())
    for change in ({"library": "faiss 0.1"}, {"tables": "0" * 64}, {"kind": "ivf"}):
        (directory / "index" / "INDEX.json").write_bytes(seal({**card, **change}))
        memory = Memory.open(directory)
        assert open_index(directory, memory.vectors, read_manifest(directory), FOLD, "hnsw") is None
    (directory / "index" / "INDEX.json").write_bytes(json.dumps({"version": 1}).encode())  # of an earlier release
    memory = Memory.open(directory)
    assert memory.index(Fold(2.0, 0.0)).search(memory.vectors.names, 1)[0] == pytest.approx(2.0, rel=1e-3)
    build(many(range(60)), directory, encoder)
    assert not (directory / "index").exists()


def test_a_list_is_checked_when_it_is_first_read(directory, encoder, monkeypatch):
    monkeypatch.setattr("memory.mapped.BLOCK_BYTES", 512)
    build(many(range(600)), directory, encoder, index="ivf", fold=FOLD)
    memory = Memory.open(directory)
    index = memory.index(FOLD)
    path = stored_file(directory, "main")
    flip(path, path.stat().st_size * 3 // 4)
    index = memory.index(FOLD)  # sizes and the head are as they were
    with pytest.raises(DamagedBlock, match="does not hold what was written"):
        index.search(rows_of(100, 32, seed=3), 5)
    memory.index(FOLD, anew=True).search(rows_of(100, 32, seed=3), 5)
    assert memory.verify()[-1].ok


def test_an_index_that_finds_too_little_is_refused(directory, encoder, monkeypatch):
    monkeypatch.setattr("memory.search.stored.tune", lambda *_: 0.54321)
    memory = build(many(range(60)), directory, encoder, index="hnsw", fold=FOLD)
    assert (memory.index_kind, memory.report.ann_recall) == ("exact", 0.5432)
    assert "the hnsw index finds less than 99% of the best 10 categories" in memory.report.index_problem
    assert Memory.open(directory).index(FOLD).kind == "exact"
    assert not (directory / "index").exists()
    with pytest.raises(ValueError, match="none of auto, exact, hnsw, ivf, lance"):
        build([Category("1")], directory, encoder, index="flat")


def test_search_is_widened_until_it_finds_enough(vectors, monkeypatch):
    from memory.search.proposals import whole_index
    from memory.search.tuning import tune

    monkeypatch.setattr("memory.search.tuning.ASKED_RECALL", 0.9)

    class Narrow(ExactIndex):
        """Finds as many rows as its effort."""

        effort, most_effort = 1, 64

        def search(self, queries, k):
            scores, rows = super().search(queries, k)
            rows[:, self.effort :] = -1
            return scores, rows

    rows = JointRows(vectors, FOLD)
    main = Narrow(rows)
    assert tune(whole_index("hnsw", main, vectors, FOLD), main, rows) == 1.0
    assert main.effort == 16
    Narrow.most_effort, main.effort = 2, 1
    assert tune(whole_index("hnsw", main, vectors, FOLD), main, rows) == pytest.approx(0.2)


def test_rows_that_no_centroid_is_near_are_found_by_every_search(tmp_path):
    clusters = np.repeat(np.eye(32, dtype=np.float32)[:15], 100, axis=0)
    rows = clusters + 0.01 * rows_of(len(clusters), 32)
    rows[700] = np.eye(32)[20]
    index = IvfIndex.build(rows)
    index.effort = 1
    query = (0.5 * np.eye(32)[1:2] + 0.6 * np.eye(32)[20:21]).astype(np.float32)
    assert index.search(query, 1)[1].tolist() == [[700]]
    index.extend(np.eye(32, dtype=np.float32)[21:22] * 2, first=len(rows))
    query[0, 21] = 0.55
    assert index.search(query, 1)[1].tolist() == [[1500]]
    index.remove(np.array([1500]))
    assert index.search(query, 2)[1][0, 0] == 700
    every = rows_of(20, 32, seed=3)
    index.effort = index.most_effort = 100
    scores, found = index.search(every, 1500)
    assert np.sort(found, axis=1).tolist() == [list(range(1500))] * 20  # none twice, none missing
    np.testing.assert_allclose(scores, -np.sort(-every @ rows.T, axis=1), atol=2e-3)


def test_graphs_and_lists_find_what_exact_search_finds(tmp_path):
    vectors, queries = rows_of(3000, 32), rows_of(60, 32, seed=1)
    best, _ = ExactIndex(vectors).search(queries, 10)
    for kind, effort in ((HnswIndex, 256), (IvfIndex, 48)):
        index = kind.build(vectors)
        index.effort = effort
        scores, rows = index.search(queries, 10)
        assert np.mean(np.take_along_axis(queries @ vectors.T, rows, axis=1) >= best[:, -1:] - 1e-6) > 0.97
        np.testing.assert_allclose(np.take_along_axis(queries @ vectors.T, rows, axis=1), scores, atol=2e-2)
        with pytest.raises(ValueError, match="NaN or infinity"):
            index.search(np.full((1, 32), np.nan, np.float32), 1)
    one, two = (HnswIndex.build(vectors[:800]) for _ in range(2))
    one.save(tmp_path / "a")
    two.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_sample_is_from_all_over():
    rows = np.arange(10_000, dtype=np.float32)[:, None]
    chosen = sample(rows, 500)[:, 0]
    assert len(set(chosen)) == 500
    assert (np.diff(chosen) > 0).all()
    assert chosen[-1] - chosen[0] > 5000
    assert sample(rows, 20_000).shape == (10_000, 1)


@pytest.mark.parametrize(
    ("categories", "ram_gib", "kind"),
    [(20_000, 1, "exact"), (100_000, 16, "ivf"), (1_000_000, 8, "ivf"), (10_000_000, 16, "lance")],
)
def test_auto_goes_by_size_and_ram(categories, ram_gib, kind):
    assert choose_kind(categories, 1024, ram_gib * 2**30) == kind


def test_auto_is_exact_for_a_small_memory(directory, encoder):
    assert build([Category("1")], directory, encoder, index="auto").index_kind == "exact"


@pytest.mark.gpu
def test_a_gpu_proposes_what_the_cpu_finds(cuda):
    from memory.search.gpu import GpuIndex

    vectors, queries = rows_of(20_000, 64), rows_of(40, 64, seed=1)
    _, rows = GpuIndex(vectors).search(queries, 20)
    _, best = ExactIndex(vectors).search(queries, 10)
    assert np.mean([np.isin(one, other).mean() for one, other in zip(best, rows, strict=True)]) > 0.99


def test_figures_are_stored_with_the_index(directory, encoder):
    memory = build(many(range(60)), directory, encoder, index="hnsw", fold=FOLD)
    index = memory.index(FOLD)
    index.main.effort = 333
    memory.store_index_figures(replace(index, depth=77, figures={**index.figures, "winner": 0.5}))
    assert Memory.open(directory).index(FOLD).main.effort == 333
    opened = Memory.open(directory)
    assert opened.info().index_recall == {"search": index.figures["search"], "winner": 0.5}
    assert opened.index(FOLD).depth == 77
