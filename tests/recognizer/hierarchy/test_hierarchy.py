"""Trees, roll-up and what it gives, on made-up confidences."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Category
from recognizer.errors import RecognizerError
from recognizer.hierarchy.climbs import Climbs, climb_scores, coverage_at, evaluate_roll_up, roll_up_figures
from recognizer.hierarchy.roll_up import NO_ANSWER, first_reached, paths_above, roll_up
from recognizer.hierarchy.rule import SPECIESNET, LabelRule, in_words, label_rule, roll_up_thresholds
from recognizer.hierarchy.tree import NO_NODE, Tree
from recognizer.results.row import CandidateRow, ResultRow
from recognizer.settings import ScoreSettings, SettingsError, load_settings
from tests.reference import slow_roll_up

ANIMALS = [
    Category("owl", "animal > bird"),
    Category("hen", "animal > bird"),
    Category("bird", "animal"),
    Category("cat", "animal"),
    Category("box"),
    Category("cup", "thing"),
]
PARTS = st.lists(st.sampled_from("abc"), max_size=3).map(" > ".join)
WORLDS = st.lists(
    st.builds(Category, st.sampled_from("abcdef"), PARTS), min_size=1, max_size=8, unique_by=lambda each: each.path
)


def shares(rng, count):
    values = rng.exponential(size=count) ** 3
    return values / values.sum()


def row_of(categories, confidences, rule):
    """The row of an image whose candidates are all categories."""
    tree = Tree(categories)
    order = np.argsort(-confidences, kind="stable")
    candidates = [
        CandidateRow(category=categories[c].name, group=categories[c].group, score=0, confidence=float(confidences[c]))
        for c in order
    ]
    sums = tree.shown(tree.sums(np.arange(len(categories)), confidences), order[:2])
    row = ResultRow(
        path="a.jpg",
        label=None,
        confidence=None,
        calibrated=False,
        unknown=None,
        candidates=candidates,
        group_confidence=sums,
    )
    return row.with_label(rule)


def test_nodes_are_groups_and_all_above_them():
    tree = Tree(ANIMALS)
    assert tree.paths == ["animal", "animal > bird", "thing"]
    assert tree.depths.tolist() == [1, 2, 1]
    assert tree.of_row.tolist() == [1, 1, 1, 0, NO_NODE, 2]
    assert tree.chains.tolist() == [[0, -1], [1, 0], [2, -1], [-1, -1]]
    assert len(Tree([Category("a")])) == 0


def test_a_name_like_a_path_is_one_name():
    odd = [Category("a > b", "c"), Category("x", "c > a > b")]
    tree = Tree(odd)
    assert [tree.paths[node] for node in tree.of_row] == ["c", "c > a > b"]
    assert paths_above("a > b", "c", set(tree.paths)) == ["c"]
    assert paths_above("x", "c > a > b", set(tree.paths)) == ["c > a > b", "c > a", "c"]
    assert paths_above("b", "c > a > b", set(tree.paths)) == ["c > a > b", "c > a", "c"]


@given(WORLDS, st.floats(0, 1), st.integers(0, 99))
def test_a_row_is_rolled_up_as_by_the_walk_from_the_best_category(categories, threshold, seed):
    confidences = shares(np.random.default_rng(seed), len(categories))
    row = row_of(categories, confidences, LabelRule(thresholds=(threshold,)))
    expected = slow_roll_up([category.path for category in categories], confidences, threshold)
    if expected is None:
        assert (row.status, row.label, row.label_path, row.source) == ("below", None, None, None)
        assert row.confidence == row.candidates[0].confidence
    else:
        path, confidence, source = expected
        assert (row.status, row.label, row.label_path, row.label_level) == ("ok", path[-1], " > ".join(path), len(path))
        assert row.confidence == pytest.approx(confidence)
        assert row.source == source


@given(WORLDS, st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(0, 99))
def test_a_higher_threshold_gives_no_deeper_label(categories, thresholds, seed):
    confidences = shares(np.random.default_rng(seed), len(categories))
    found = [row_of(categories, confidences, LabelRule(thresholds=(each,))) for each in sorted(thresholds)]
    steps = [(row.label_level or 0) - (row.source == "rolled up") for row in found]  # a category at its group's path
    assert steps == sorted(steps, reverse=True)


@given(WORLDS, st.integers(0, 99))
def test_threshold_0_gives_the_category_and_1_the_top_or_nothing(categories, seed):
    confidences = shares(np.random.default_rng(seed), len(categories))
    lowest = row_of(categories, confidences, LabelRule(thresholds=(0.0,)))
    assert (lowest.label, lowest.source) == (categories[int(confidences.argmax())].name, "category")
    highest = row_of(categories, confidences, LabelRule(thresholds=(1.0,)))
    assert highest.label is None or highest.confidence == pytest.approx(1)


@given(WORLDS, st.integers(0, 99))
def test_sums_are_those_of_all_categories_below(categories, seed):
    confidences = shares(np.random.default_rng(seed), len(categories))
    tree = Tree(categories)
    sums = tree.sums(np.arange(len(categories)), confidences)
    for path, value in zip(tree.paths, sums, strict=True):
        levels = tuple(path.split(" > "))
        below = [c for c, category in enumerate(categories) if category.path[: len(levels)] == levels]
        assert value == pytest.approx(confidences[below].sum())


def test_the_category_of_a_group_counts_for_it_and_answers_above_the_truth_are_right():
    tree = Tree(ANIMALS)
    truth = np.array([0, 1, 2, 3, 4, -1])
    right = tree.right(np.zeros(6, np.int64), truth)  # the answer is the owl, or above it
    assert right.tolist() == [
        [True, True, True],
        [False, True, True],
        [False, True, True],
        [False, False, True],
        [False, False, False],
        [False, False, False],
    ]
    assert not tree.right(np.array([4]), np.array([5])).any()


def test_each_level_has_its_threshold_and_the_last_is_that_of_all_above():
    values = np.array([[0.2, 0.5, 0.9], [0.2, 0.3, np.nan], [0.8, 0.8, 0.8], [0.1, 0.61, 0.7]])
    assert first_reached(values, (0.7, 0.6)).tolist() == [2, NO_ANSWER, 0, 1]
    assert first_reached(values, (0.7, 0.4, 1.0)).tolist() == [1, NO_ANSWER, 0, 1]
    assert roll_up(0.2, [0.5, 1 - 1e-12], (1.0,)) == 2  # a sum that ends a rounding below 1


def test_the_least_confidence_holds_for_groups_too():
    confidences = np.array([0.4, 0.3, 0.0, 0.0, 0.2, 0.1])
    assert row_of(ANIMALS, confidences, LabelRule(0.6, (0.5,))).label_path == "animal > bird"
    assert row_of(ANIMALS, confidences, LabelRule(0.8, (0.5,))).status == "below"
    assert row_of(ANIMALS, confidences, LabelRule(0.6)).label is None
    plain = row_of(ANIMALS, confidences, LabelRule())
    assert (plain.label, plain.label_level, plain.label_path, plain.source) == ("owl", None, None, None)
    assert row_of(ANIMALS, confidences, LabelRule(0.6, (0.5,))).with_label(LabelRule()) == plain


CURVE = ((0.3, 0.9, 80.0), (0.6, 0.95, 60.0), (0.9, 0.9637, 40.0))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, LabelRule()),
        ({"min_confidence": 0.4}, LabelRule(0.4)),
        ({"roll_up": 0.65}, LabelRule(None, (0.65,))),
        ({"roll_up": "auto", "roll_up_thresholds": (0.7, 0.5)}, LabelRule(None, (0.7, 0.5))),
        ({"precision": 0.91, "precision_curve": CURVE}, LabelRule(0.6)),
        ({"precision": 0.9, "precision_curve": CURVE, "min_confidence": 0.5}, LabelRule(0.5)),
    ],
)
def test_the_settings_decide_what_a_label_needs(changes, rule):
    assert label_rule(ScoreSettings(**changes)) == rule


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"roll_up": "auto"}, "needs the thresholds that `recognizer calibrate` fits"),
        ({"precision": 0.9}, "needs the curve that `recognizer calibrate` fits"),
        (
            {"precision": 0.98, "precision_curve": CURVE},
            r"cannot support a precision of 0\.98: the best reachable precision is 0\.963, with 40 images",
        ),
        (
            {"precision": 0.9, "precision_curve": CURVE, "roll_up": "auto", "roll_up_thresholds": (0.7,)},
            "give one of them",
        ),
    ],
)
def test_what_no_calibration_supports_is_refused(changes, said):
    score = ScoreSettings(**changes)
    with pytest.raises(RecognizerError, match=said):
        label_rule(score)
    assert score.uncalibrated().precision_curve is score.uncalibrated().roll_up_thresholds is None


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ((0.65,), "the category from confidence 0.65 on, else the lowest group above it that reaches it"),
        ((0.0, 1.0), "every image gets its category, and none a group"),
        ((0.7, 1.0), "the category from confidence 0.7 on, and never a group"),
        ((0.7, 0.5), "the category from confidence 0.7 on, else its group or one above it from 0.5 on"),
        (
            (0.7, 0.5, 1, 0.25),
            "the category from confidence 0.7 on, else its group from 0.5 on, else the group 3 levels up or one above "
            "it from 0.25 on",
        ),
    ],
)
def test_thresholds_are_told_in_words(thresholds, words):
    assert in_words(thresholds) == words


def test_values_that_are_no_threshold_are_refused():
    for value in ("sometimes", "1.5", "-0.1", "true"):
        with pytest.raises(SettingsError, match=r"score\.roll_up"):
            load_settings(overrides=[f"score.roll_up={value}"])
    with pytest.raises(SettingsError, match=r"score\.precision"):
        load_settings(overrides=["score.precision=1"])


def test_roll_up_is_measured_with_the_settings_or_calibrated_or_speciesnets_thresholds():
    calibrated = ScoreSettings(roll_up_thresholds=(0.7, 0.5))
    assert roll_up_thresholds(ScoreSettings()) == (SPECIESNET,)
    assert roll_up_thresholds(calibrated) == (0.7, 0.5)
    assert roll_up_thresholds(calibrated.model_copy(update={"roll_up": 0.4})) == (0.4,)


def test_figures_count_answers_levels_and_depth():
    values = np.array([[0.9, 0.9, 1], [0.3, 0.8, 1], [0.3, 0.4, 0.9], [0.2, 0.3, 0.4], [0.9, np.nan, np.nan]])
    right = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]], bool)
    figures = roll_up_figures(Climbs(values, right), (0.7,))
    assert figures.accuracy.value == pytest.approx(2 / 4)
    assert (figures.answered, figures.category) == (pytest.approx(4 / 5), pytest.approx(2 / 5))
    assert figures.depth == pytest.approx((1 + 2 / 3 + 1 / 3 + 0 + 1) / 5)
    assert figures.levels == [(2, 0.5), (1, 1.0), (1, 0.0)]


def test_coverage_is_the_largest_share_that_one_threshold_answers_so_precisely():
    values = np.array([[0.9, 1], [0.8, 0.9], [0.3, 0.7], [0.2, 0.4]])
    right = np.array([[1, 1], [0, 1], [0, 1], [0, 0]], bool)
    coverage = coverage_at(Climbs(values, right), 0.95)
    assert coverage.category.value == pytest.approx(1 / 4)
    assert coverage.rolled_up.value == pytest.approx(2 / 4)  # below 0.8 the second category is wrong
    assert coverage.category.low <= coverage.category.value <= coverage.category.high
    evaluation = evaluate_roll_up([Climbs(values[:2], right[:2]), Climbs(values[2:], right[2:])], (0.65,))
    assert evaluation.coverage[0.95] == coverage
    assert evaluation.figures == roll_up_figures(Climbs(values, right), (0.65,))


def test_climbs_of_scores_are_sums_of_their_softmax():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, len(ANIMALS))).astype(np.float32)
    tree, truth = Tree(ANIMALS), np.array([0, 1, 4, 3])
    climbs = climb_scores(scores, 0.5, tree, truth)
    confidences = np.exp(scores / 0.5) / np.exp(scores / 0.5).sum(1, keepdims=True)
    for image, own in enumerate(confidences):
        best = int(own.argmax())
        path = ANIMALS[best].path
        expected = [own[best]] + [
            sum(own[c] for c, each in enumerate(ANIMALS) if each.path[:length] == path[:length])
            for length in range(len(path), 0, -1)
            if " > ".join(path[:length]) in tree.paths
        ]
        np.testing.assert_allclose(climbs.values[image, : len(expected)], expected, rtol=1e-5)
        assert np.isnan(climbs.values[image, len(expected) :]).all()
        assert climbs.right[image, 0] == (best == truth[image])


def test_plain_groups_are_a_tree_of_one_level():
    plain = [replace(each, group=each.group.split(" > ")[-1]) for each in ANIMALS]
    tree = Tree([each for each in plain if each.name != "bird"])
    assert set(tree.depths.tolist()) == {1}
