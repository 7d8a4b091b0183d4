import pytest
from PIL import Image

from recognizer.benchmark.candidates import candidates
from recognizer.benchmark.distractors import distractors
from recognizer.reranking.open import open_reranker
from recognizer.settings import load_settings
from tests.recognizer.benchmark.seeing import SeeingBench, pictures
from tests.rerank.scripted import preferring

NAMES = ["barn owl", "truck", "pear"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images of a truck look more like distractors: one among the first 20 of seed 0, one among the first 40."""
    drawn = distractors(NAMES, 37)
    folder = tmp_path_factory.mktemp("set")
    pictures(
        folder,
        {
            "barn owl": ["barn owl", "barn owl"],
            "pear": ["pear"],
            "truck": [f"truck+{word}+{word}" for word in (drawn[3], drawn[30])],
        },
    )
    return folder


def figures(table, metric="top-1"):
    return {row.what: [round(value, 6) for value in row.values] for row in table.rows if row.metric == metric}


def test_accuracy_falls_as_candidates_are_added_and_the_curve_is_drawn(folder, tmp_path):
    table = candidates(SeeingBench(), folder, sizes=(40, 20, 2), seeds=2, diagram=tmp_path / "curve.png")
    top1 = figures(table)
    assert top1["20 candidates, whole image"] == [0.8, 1]  # seed 1 draws others
    assert top1["40 candidates, whole image"] == [0.6, 1]
    assert top1["40 candidates, with regions"][0] == 0.6
    assert len(top1["40 candidates, whole image"]) == 2
    alone = top1["3 candidates, whole image"]
    assert alone == [1]
    for seed in range(2):
        assert alone[0] >= top1["20 candidates, whole image"][seed] >= top1["40 candidates, whole image"][seed]
    (left_out,) = [row for row in table.rows if not row.values]
    assert left_out.what == "2 candidates"
    assert "names are more" in left_out.note
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 500


def test_an_mllm_orders_the_best_candidates(folder):
    settings = load_settings(overrides=["rerank.when=always", "rerank.model=none", "rerank.cache=off"])
    reranker = open_reranker(settings.rerank, mllm=preferring(["truck"]))
    table = candidates(SeeingBench(settings), folder, sizes=(40,), seeds=1, reranker=reranker)
    top1 = figures(table)
    assert top1["40 candidates, with regions"] == [0.6]
    # the trucks are among the five best of their images
    assert top1["40 candidates, + rerank"] == top1["3 candidates, + rerank"] == [1]
    assert not reranker.counts.failed
    assert reranker.counts.asked == 10
