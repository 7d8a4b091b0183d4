import numpy as np
import pytest

from memory import Category
from recognizer.calibration.roll_up import FEWEST_PER_LEVEL, NEVER, climb_table, fit_thresholds
from recognizer.calibration.terms import UNKNOWN
from recognizer.hierarchy.climbs import Climbs, climb_scores, roll_up_figures
from recognizer.hierarchy.tree import Tree
from recognizer.score import weigh
from recognizer.settings import ScoreSettings
from tests.recognizer.calibration.tables import drawn_table

WEIGHTS = (0.3, 0.2, 0.2, 0.3)
CATEGORIES = [Category(f"c{c}", f"g{c % 4 // 2} > g{c % 4}") for c in range(24)]


def drawn_climbs(rng, images):
    """Values that are exactly the chance of being right, each level a little surer than the one below."""
    values = np.sort(rng.uniform(size=(images, 3)), axis=1)
    right = rng.uniform(size=(images, 1)) < values
    return Climbs(values, right)


def test_a_table_climbs_as_the_scores_do():
    rng = np.random.default_rng(0)
    table = drawn_table(rng, 30, len(CATEGORIES), WEIGHTS, 0.5)
    table.truth[:3] = UNKNOWN
    tree = Tree(CATEGORIES)
    climbs = climb_table(table, WEIGHTS, 0.5, tree)
    scores = weigh(table.values, ScoreSettings().with_weights(WEIGHTS))
    expected = climb_scores(scores, 0.5, tree, np.where(table.truth == UNKNOWN, -1, table.truth))
    np.testing.assert_allclose(climbs.values, expected.values, rtol=1e-4)
    np.testing.assert_array_equal(climbs.right, expected.right)
    assert not climbs.right[:3].any()


def test_categories_that_were_taken_out_are_no_answers():
    table = drawn_table(np.random.default_rng(1), 20, len(CATEGORIES), WEIGHTS, 0.5)
    tree, out = Tree(CATEGORIES), np.arange(0, 24, 2)
    climbs = climb_table(table.without(out), WEIGHTS, 0.5, tree)
    left = climb_table(table, WEIGHTS, 0.5, tree)
    assert (climbs.values[:, 0] >= left.values[:, 0] - 1e-9)[left.values[:, 0] > 0.9].all()
    np.testing.assert_allclose(np.nanmax(climbs.values), 1, atol=0.2)


@pytest.mark.parametrize("stated", [0.7, 0.9])
def test_the_accuracy_at_each_level_is_as_stated_on_other_images(stated):
    rng = np.random.default_rng(2)
    thresholds = fit_thresholds(drawn_climbs(rng, 6000), stated)
    assert len(thresholds) == 3
    figures = roll_up_figures(drawn_climbs(rng, 6000), thresholds)
    assert figures.accuracy.value == pytest.approx(stated, abs=0.02)
    assert [accuracy for _, accuracy in figures.levels] == pytest.approx([stated] * 3, abs=0.06)
    assert figures.category < figures.answered < 1


def test_levels_with_few_images_share_a_threshold():
    thresholds = fit_thresholds(drawn_climbs(np.random.default_rng(3), FEWEST_PER_LEVEL - 1), 0.9)
    assert len(thresholds) == 2


def test_a_handful_of_right_answers_is_no_evidence():
    right = np.ones((8, 1), bool)
    values = np.linspace(0.5, 0.9, 8)[:, None]
    assert fit_thresholds(Climbs(values, right), 0.9) == (NEVER,)  # 8 of 9
    assert fit_thresholds(Climbs(np.vstack([values, [[0.4]]]), np.ones((9, 1), bool)), 0.9) == (0.0,)  # 9 of 10


def test_equal_confidences_are_not_parted():
    values, right = np.array([0.8] * 40 + [0.5] * 2)[:, None], np.array([True] * 38 + [False] * 4)[:, None]
    (threshold,) = fit_thresholds(Climbs(values, right), 0.9)
    assert 0.5 < threshold <= 0.8


def test_without_images_or_without_right_answers_nothing_is_sure_enough():
    assert fit_thresholds(Climbs(np.zeros((0, 2)), np.zeros((0, 2), bool)), 0.9) == (NEVER, NEVER)
    assert fit_thresholds(Climbs(np.full((50, 2), 0.9), np.zeros((50, 2), bool)), 0.9) == (NEVER, NEVER)
