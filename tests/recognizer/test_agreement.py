from dataclasses import replace

import numpy as np
import pytest

from memory.search import exact_index
from recognizer.agreement import Agreement, compare, make_retriever, measured
from recognizer.approximate import ApproximateRetriever
from recognizer.retrieval import ExactRetriever, Retrieved
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_vectors

TEMPERATURE = 0.1


def found(rows, scores, confidences):
    return Retrieved(np.array(rows), np.array(scores, np.float32), np.array(confidences, np.float64))


def test_agreement_counts_the_best_ten_the_winner_and_the_worst_confidence():
    exact = [found([1, 2, 3], [0.9, 0.8, 0.7], [0.5, 0.2, 0.1]), found([4, 5], [0.6, 0.5], [0.3, 0.2])]
    other = [found([2, 3, 7], [0.8, 0.7, 0.6], [0.23, 0.1, 0.1]), found([5, 4], [0.6, 0.5], [0.2, 0.3])]
    agreement = compare(exact, other)
    assert agreement.ranking == pytest.approx((2 / 3 + 1) / 2)
    assert agreement.winner == 0.5
    assert agreement.confidence == pytest.approx(0.03)
    assert not agreement.is_enough
    assert compare(exact, exact) == Agreement(1.0, 1.0, 0.0)
    assert compare(exact, exact).is_enough
    for worse in (Agreement(0.98, 1, 0), Agreement(1, 0.99, 0), Agreement(1, 1, 0.021)):
        assert not worse.is_enough
    empty = [found([], [], []), found([], [], [])]
    assert compare(exact, empty).winner == 0


@pytest.fixture(scope="module")
def scorer():
    vectors = make_vectors(np.random.default_rng(0), [n % 3 for n in range(300)], dim=16)
    return Scorer(vectors, ScoreSettings())


class Missing:
    """Search that misses the best rows."""

    def __init__(self, main, missed):
        self.main, self.missed, self.size = main, missed, main.size

    def search(self, queries, k):
        scores, rows = self.main.search(queries, k + self.missed)
        return scores[:, self.missed :], rows[:, self.missed :]


def test_the_depth_is_as_large_as_agreement_needs(scorer):
    index = measured(exact_index(scorer.vectors, scorer.fold), scorer, TEMPERATURE)
    assert index.depth == 32
    assert index.figures["winner"] == 1.0
    assert index.figures["ranking"] >= 0.995
    assert index.figures["confidence"] <= 0.02


class Wide:
    """Exact search with a width, which changes nothing."""

    kind, effort, most_effort = "wide", 4, 14

    def __init__(self, main):
        self.search, self.size = main.search, main.size

    def save(self, path):
        """Do nothing."""


@pytest.mark.parametrize(
    ("agreements", "depth", "effort"),
    [
        ([(0.996, 0.998)], 32, 4),  # as aimed
        ([(0.98, 1), (0.994, 0.996), (0.996, 1)], 128, 4),  # deeper, until it is
        ([(0.98, 1), (0.992, 0.996), (0.992, 0.996), (0.992, 0.996)], 64, 4),  # neither deeper nor wider is better
        ([(0.98, 1), (0.98, 1), (0.99, 1), (0.996, 1)], 32, 14),  # wider, to its most
        ([(0.98, 1), (0.98, 1), (0.992, 1), (0.991, 1)], 32, 8),
        ([(0.9, 1), (0.91, 1), (0.92, 1), (0.93, 1), (0.94, 1), (0.95, 1), (0.993, 1), (0.999, 1)], 1024, 14),
    ],
)
def test_what_does_not_agree_gets_deeper_and_then_wider(scorer, monkeypatch, agreements, depth, effort):
    answers = (Agreement(ranking, winner, 0) for ranking, winner in agreements)
    monkeypatch.setattr("recognizer.agreement.compare", lambda *_: next(answers))
    whole = exact_index(scorer.vectors, scorer.fold)
    main = Wide(whole.main)
    assert measured(replace(whole, main=main), scorer, TEMPERATURE).depth == depth
    assert main.effort == effort
    assert next(answers, None) is None


def test_an_index_that_does_not_agree_is_not_used(scorer, monkeypatch):
    monkeypatch.setattr("recognizer.agreement.MOST_DEPTH", 32)
    stored = []

    class AMemory:
        """A memory with an index that misses the best."""

        def index(self, fold):
            whole = exact_index(scorer.vectors, fold)
            return stored[-1] if stored else replace(whole, kind="hnsw", main=Missing(whole.main, 150))

        def store_index_figures(self, index):
            stored.append(index)

    with pytest.warns(UserWarning, match=r"the hnsw index does not agree with exact search \(ranking 0\.[0-9]+"):
        retriever = make_retriever(AMemory(), scorer, temperature=TEMPERATURE, approximate=True)
    assert isinstance(retriever, ExactRetriever)
    assert stored[0].depth == -1
    retriever = make_retriever(AMemory(), scorer, temperature=TEMPERATURE, approximate=True)  # not measured again
    assert isinstance(retriever, ExactRetriever)
    assert len(stored) == 1
    stored[0] = replace(stored[0], depth=7)
    retriever = make_retriever(AMemory(), scorer, temperature=TEMPERATURE, approximate=True)
    assert isinstance(retriever, ApproximateRetriever)
    assert retriever.depth == 7
