import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.choice import combine_rotations, fuse, is_settled, normalised, rotated, rotation_starts
from rerank.mllm import Choice
from tests.rerank.scripted import choice


@given(st.integers(1, 20))
def test_over_all_rotations_each_option_stands_once_in_each_place(count):
    places = [rotated(count, start) for start in rotation_starts(count)]
    for place in range(count):
        assert sorted(row[place] for row in places) == list(range(count))


@given(st.integers(1, 20), st.integers(1, 25))
def test_fewer_rotations_are_distinct_and_begin_with_the_order_given(count, wanted):
    starts = rotation_starts(count, wanted)
    assert starts[0] == 0
    assert len(set(starts)) == len(starts) == min(count, wanted)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8), st.floats(-5, 5), st.integers(0, 7))
def test_a_favour_for_a_place_cancels_over_all_rotations(strength, favour, place):
    count = len(strength)
    starts = rotation_starts(count)
    answers = []
    for start in starts:
        weights = [strength[option] for option in rotated(count, start)]
        weights[place % count] *= math.exp(favour)
        answers.append(choice(weights))
    expected = normalised(np.log(np.array(strength)))
    assert combine_rotations(starts, answers, count) == pytest.approx(expected, abs=1e-9)


def test_beginning_with_another_option_changes_nothing():
    strength = [3.0, 1.0, 0.5]
    turned = strength[1:] + strength[:1]

    def combined(options):
        starts = rotation_starts(3)
        answers = [choice([options[i] * (5 if p == 0 else 1) for p, i in enumerate(rotated(3, s))]) for s in starts]
        return combine_rotations(starts, answers, 3)

    assert combined(turned) == pytest.approx(np.roll(combined(strength), -1))


def test_without_log_probabilities_the_rotations_vote():
    # Option 1 is chosen twice, in places 1 and 0; option 0 once.
    answers = [Choice(None, 1), Choice(None, 0), Choice((-0.1, -3.0, -3.0), 1)]
    found = np.exp(combine_rotations([0, 1, 2], answers, 3))
    assert found == pytest.approx(np.array([1.5, 2.5, 0.5]) / 4.5)


def in_places(log_probs_by_option, start):
    """The answer to the rotation that begins with option `start`."""
    return Choice(tuple(log_probs_by_option[option] for option in rotated(len(log_probs_by_option), start)), 0)


def settled_by(rows):
    """Whether log-probabilities by option (row: a rotation that `auto` asks for first) settle the first place."""
    count = len(rows[0])
    starts = rotation_starts(count, "auto")
    return is_settled(starts, [in_places(row, start) for row, start in zip(rows, starts, strict=True)], count)


def test_auto_asks_first_for_three_rotations_that_are_evenly_spread():
    assert [rotation_starts(count, "auto") for count in (2, 3, 5, 10)] == [[0, 1], [0, 1, 2], [0, 1, 3], [0, 3, 6]]


# Leads over the second option of 4, 6 and 5: mean 5, standard deviation 1, error sqrt(0.4 / 3) = 0.365 with 5 options
# and sqrt(0.85 / 3) = 0.532 with 20, times 6.965: 2.54 and 3.71. All leads may be smaller by as much as is left.
@pytest.mark.parametrize(
    ("count", "less", "expected"), [(5, 2.4, True), (5, 2.5, False), (20, 1.2, True), (20, 1.4, False)]
)
def test_a_lead_settles_the_first_place_by_students_test(count, less, expected):
    rows = [[-lead, 0.0, *[-90.0] * (count - 2)] for lead in (4 - less, 6 - less, 5 - less)]
    assert settled_by(rows) == expected


def test_every_other_option_must_be_behind():
    assert settled_by([[0.0, -9.0, -20.0], [0.0, -9.1, -20.0], [0.0, -9.0, -20.0]])  # all three are answered
    assert settled_by([[0.0, -9.0, -20.0, -20.0], [0.0, -9.1, -20.0, -20.0], [0.0, -9.0, -20.0, -20.0]])
    assert not settled_by([[0.0, -9.0, -20.0, 0.0], [0.0, -9.1, -20.0, -9.0], [0.0, -9.0, -20.0, -20.0]])
    assert not settled_by([[-1.0] * 5] * 3)


@given(st.integers(2, 20), st.data())
def test_settled_votes_stay_whatever_the_others_say(count, data):
    starts = rotation_starts(count, "auto")
    chosen = data.draw(st.lists(st.integers(0, min(count, 3) - 1), min_size=len(starts), max_size=len(starts)))
    first = [Choice(None, (option - start) % count) for start, option in zip(starts, chosen, strict=True)]
    favourite = max(set(chosen), key=chosen.count)
    left = count - len(starts)
    rivals = max((chosen.count(other) for other in range(count) if other != favourite), default=0)
    assert is_settled(starts, first, count) == (left == 0 or chosen.count(favourite) > rivals + left)


@given(
    st.lists(st.tuples(st.floats(1e-3, 1), st.floats(1e-3, 1)), min_size=1, max_size=20),
    st.floats(0, 4),
)
def test_fusion_is_the_product_of_powers(pairs, weight):
    answer, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    slow = [a**weight * c for a, c in zip(answer, confidence, strict=True)]
    expected = [value / sum(slow) for value in slow]
    assert fuse(normalised(np.log(answer)), confidence, weight) == pytest.approx(expected, rel=1e-6)


def test_a_weight_of_zero_leaves_retrieval_and_a_zero_confidence_stays_finite():
    assert fuse(np.log([0.1, 0.9]), [0.6, 0.4], 0) == pytest.approx([0.6, 0.4])
    assert np.isfinite(fuse(np.log([0.1, 0.9]), [0.0, 0.0], 1)).all()
