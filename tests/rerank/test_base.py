import pytest

from rerank.base import Candidate, Ranking, check_distinct, unchanged_ranking


@pytest.mark.parametrize("order", [(0, 0), (0,), (1, 2), (0, 1, 2), ()])
def test_a_ranking_that_loses_repeats_or_invents_cannot_be_made(order):
    with pytest.raises(ValueError, match="permutation"):
        Ranking(order, (0.5, 0.5))


@pytest.mark.parametrize("probabilities", [(0.5, 0.6), (1.5, -0.5), (float("nan"), 1.0), (0.0, 0.0)])
def test_probabilities_are_probabilities(probabilities):
    with pytest.raises(ValueError, match="probabilities"):
        Ranking((0, 1), probabilities)


def test_equal_candidates_are_refused_and_groups_tell_names_apart():
    check_distinct([Candidate("crane", group="bird"), Candidate("crane", group="machine")])
    with pytest.raises(ValueError, match="'crane' occurs twice"):
        check_distinct([Candidate("crane"), Candidate("owl"), Candidate("crane")])


def test_keeping_the_order_shares_retrievals_confidences():
    ranking = unchanged_ranking([Candidate("a", confidence=0.3), Candidate("b", confidence=0.1)], "timeout")
    assert ranking.order == (0, 1)
    assert ranking.probabilities == pytest.approx((0.75, 0.25))
    assert ranking.status == "timeout"
    assert unchanged_ranking([Candidate("a", confidence=0.0), Candidate("b", confidence=0.0)], "x").probabilities == (
        0.5,
        0.5,
    )
    assert unchanged_ranking([], "x").order == ()
