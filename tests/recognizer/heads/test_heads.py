"""The heads on small worlds: what they add, what they leave alone, and the slow version of the kernel ridge."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.heads import HEADS, Shots, choice, fit, kernel_ridge, pairs
from recognizer.heads.choice import choose_constants
from recognizer.heads.constants import ALONE, PRIOR, Constants
from recognizer.heads.kernel_ridge import DOUBTED, KernelRidge, evenly, inverse_kernel, kernel_matrix
from recognizer.heads.pairs import disputed_pairs
from tests.recognizer.worlds import unit
from tests.reference import slow_head


def make_shots(rng, labels, categories, dim=8):
    labels = np.array(labels, np.int64)
    return Shots.of(unit(rng, len(labels), dim), labels, unit(rng, categories, dim))


def world(rng, categories, shots, dim=64, noise=0.1):
    """Texts, exemplars and pictures of categories whose names say little about the pictures."""
    centres = unit(rng, categories, dim)
    labels = np.repeat(np.arange(categories), shots)

    def near(rows, noise):
        moved = rows + noise * rng.normal(size=rows.shape)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)

    texts, exemplars = near(centres, 0.3), near(centres[labels], noise)
    truth = np.repeat(np.arange(categories), 10)
    return texts, exemplars, labels, near(centres[truth], noise), truth


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    gone=st.sets(st.integers(0, 8), max_size=3),
    constants=st.sampled_from([PRIOR, Constants(3, 0.1), Constants(0.5, 2)]),
)
def test_the_term_is_that_of_a_fit_in_loops_and_without_an_exemplar_that_of_a_new_fit(seed, labels, gone, constants):
    rng = np.random.default_rng(seed)
    shots, images = make_shots(rng, labels, 6), unit(rng, 3, 8)
    head = KernelRidge(shots, constants)
    texts = shots.texts
    slow = slow_head(shots.vectors, shots.labels, texts, constants.beta, constants.ridge)
    np.testing.assert_allclose(head.weights, slow.weights)
    assert head.shift == pytest.approx(slow.shift, abs=1e-4)
    np.testing.assert_allclose(head.term(images), slow(images), atol=2e-5)
    rows = np.array(sorted(row for row in gone if row < len(labels)), np.int64)
    kept = np.setdiff1d(np.arange(len(labels)), rows)
    again = slow_head(
        shots.vectors[kept],
        shots.labels[kept],
        texts,
        constants.beta,
        constants.ridge,
        weights=slow.weights[kept],
        spread=slow.spread,
        shift=slow.shift,
    )
    np.testing.assert_allclose(head.term(images, [rows] * 3), again(images), atol=5e-5)


@pytest.mark.parametrize("exemplars", [511, 512, 1100])
def test_the_inverse_is_symmetric_and_an_inverse(exemplars):
    rng = np.random.default_rng(0)
    shots = make_shots(rng, rng.integers(0, 5, exemplars), 5)
    weights = rng.uniform(0.5, 1, exemplars)
    inverse = inverse_kernel(shots, PRIOR, weights)
    assert np.array_equal(inverse, inverse.T)
    regular = kernel_matrix(shots.vectors, shots.vectors, PRIOR.beta) + np.diag(PRIOR.ridge / weights)
    assert np.allclose(inverse @ regular, np.eye(exemplars), atol=1e-3)


def test_landmarks_that_are_all_exemplars_give_the_exact_fit(monkeypatch):
    rng = np.random.default_rng(0)
    shots, images = make_shots(rng, [0, 0, 1, 2, 2, 2, 4], 6), unit(rng, 5, 8)
    without = [np.array([1, 4])] + [np.zeros(0, np.int64)] * 4
    exact = KernelRidge(shots).term(images, without)
    monkeypatch.setattr(kernel_ridge, "EXACT", 3)
    few = KernelRidge(shots)
    assert len(few.basis) == 7
    np.testing.assert_allclose(few.term(images, without), exact, atol=1e-4)


def test_landmarks_carry_many_exemplars(monkeypatch):
    rng = np.random.default_rng(1)
    texts, exemplars, labels, images, truth = world(rng, 8, 30, dim=16)
    shots = Shots.of(exemplars, labels, texts)
    exact = images @ texts.T + KernelRidge(shots).term(images)
    monkeypatch.setattr(kernel_ridge, "EXACT", 100)
    monkeypatch.setattr(kernel_ridge, "LANDMARKS", 64)
    few = KernelRidge(shots)
    assert np.bincount(labels[few.basis]).tolist() == [8] * 8
    scores = images @ texts.T + few.term(images)
    assert (scores.argmax(1) == truth).mean() >= (exact.argmax(1) == truth).mean() - 0.01


def test_exemplars_of_a_single_category_count_for_it_and_hardly_elsewhere():
    rng = np.random.default_rng(2)
    texts, exemplars, labels, images, truth = world(rng, 20, 1)
    one = fit("auto", exemplars[:1], labels[:1], texts)
    before = images @ texts.T
    after = one(images, before)
    own = truth == 0
    assert (after - before)[own, 0].min() > 2 * (after - before)[~own, 0].max()
    assert (after.argmax(1) == truth)[own].mean() >= (before.argmax(1) == truth)[own].mean()
    assert (after.argmax(1) == truth)[~own].mean() >= (before.argmax(1) == truth)[~own].mean() - 0.01


def test_exemplars_of_half_of_the_categories_gain_there_and_cost_the_others_nothing():
    rng = np.random.default_rng(3)
    gains, others = [], []
    for _ in range(4):
        texts, exemplars, labels, images, truth = world(rng, 40, 2, noise=0.2)
        some, has = labels < 20, truth < 20
        before = images @ texts.T
        right = (before.argmax(1) == truth).astype(float)
        change = (fit("auto", exemplars[some], labels[some], texts)(images, before).argmax(1) == truth) - right
        gains.append(change[has].mean())
        others.append(change[~has].mean())
    assert np.mean(gains) > 0.03
    assert np.mean(others) > -0.01


def test_scores_that_are_twice_as_far_apart_get_a_term_twice_as_large():
    rng = np.random.default_rng(4)
    shots = make_shots(rng, [0, 1, 1, 3], 5)
    images = unit(rng, 3, 8)
    twice = Shots.of(shots.vectors, shots.labels, 2 * shots.texts)
    np.testing.assert_allclose(KernelRidge(twice).term(images), 2 * KernelRidge(shots).term(images), atol=1e-5)


def test_a_mislabelled_exemplar_is_doubted():
    rng = np.random.default_rng(5)
    texts, exemplars, labels, _, _ = world(rng, 10, 4)
    wrong = labels.copy()
    wrong[9] = 7
    head = KernelRidge(Shots.of(exemplars, wrong, texts))
    assert head.doubted == [(9, 2)]
    assert head.weights.tolist() == [DOUBTED if row == 9 else 1 for row in range(40)]
    assert KernelRidge(Shots.of(exemplars, labels, texts)).doubted == []


def disputed_world():
    """Three exemplars of each of ten categories but two of category 4, the second of which (13) shows category 7."""
    texts, exemplars, labels, _, _ = world(np.random.default_rng(5), 10, 3)
    exemplars[13] = exemplars[21:24].sum(0) / np.linalg.norm(exemplars[21:24].sum(0))
    kept = np.delete(np.arange(30), 14)
    return Shots.of(exemplars[kept], labels[kept], texts), Shots.of(exemplars, labels, texts)


def test_two_exemplars_that_contradict_each_other_are_both_listed_and_fitted_as_they_are():
    two, three = disputed_world()
    first, second = disputed_pairs(two, PRIOR)
    assert first == (13, 7)
    assert second[0] == 12
    assert KernelRidge(two).weights[12:14].tolist() == [1, 1]
    assert disputed_pairs(three, PRIOR) == []
    assert (13, 7) in KernelRidge(three).doubted
    alike = two.vectors.copy()
    alike[13] = alike[12]
    assert disputed_pairs(replace(two, vectors=alike), PRIOR) == []


def test_of_many_exemplars_only_pairs_that_are_all_of_a_category_are_disputed(monkeypatch):
    two, three = disputed_world()
    monkeypatch.setattr(pairs, "EXACT", 3)
    monkeypatch.setattr(pairs, "LANDMARKS", 20)  # two of each category
    assert [place for place, _ in disputed_pairs(two, PRIOR)] == [13, 12]
    assert disputed_pairs(three, PRIOR) == []


def test_one_category_and_equal_texts_get_finite_scores():
    rng = np.random.default_rng(6)
    vectors, images = unit(rng, 2, 8), unit(rng, 3, 8)
    for texts in (unit(rng, 1, 8), np.repeat(unit(rng, 1, 8), 3, 0)):
        for name in HEADS:
            labels = np.zeros(2, np.int64)
            assert np.isfinite(fit(name, vectors, labels, texts)(images, images @ texts.T)).all()


def test_equal_images_under_two_labels_share_what_they_say():
    rng = np.random.default_rng(7)
    image = unit(rng, 1, 8)
    texts = unit(rng, 4, 8)
    head = KernelRidge(Shots.of(image.repeat(2, 0), np.array([0, 1]), texts))
    scores = image @ texts.T + head.term(image)
    assert set(np.argsort(-scores[0])[:2].tolist()) == {0, 1}


def test_the_prior_stands_below_three_exemplars_and_where_nothing_is_clearly_better(monkeypatch):
    rng = np.random.default_rng(8)
    texts, exemplars, labels, _, _ = world(rng, 10, 2)
    assert choose_constants(Shots.of(exemplars, labels, texts)) == PRIOR
    texts, exemplars, labels, _, _ = world(rng, 10, 4)
    assert choose_constants(Shots.of(exemplars, labels, texts)) == PRIOR
    assert choose_constants(make_shots(rng, [0, 0, 0, 1, 2], 3)) == ALONE


def test_other_constants_are_chosen_where_leave_one_out_clearly_prefers_them(monkeypatch):
    rng = np.random.default_rng(9)
    texts, exemplars, labels, _, _ = world(rng, 30, 6, noise=0.25)
    monkeypatch.setattr(choice, "PRIOR", Constants(0.01, 100.0))
    chosen = choose_constants(Shots.of(exemplars, labels, texts))
    assert (chosen.beta, chosen.ridge) in {(beta, ridge) for beta in choice.BETAS for ridge in choice.RIDGES}


def test_of_many_categories_some_keep_all_their_exemplars_and_choose(monkeypatch):
    rng = np.random.default_rng(9)
    texts, exemplars, labels, _, _ = world(rng, 40, 6, noise=0.25)
    monkeypatch.setattr(choice, "PRIOR", Constants(0.01, 100.0))
    monkeypatch.setattr(choice, "MOST", 60)
    monkeypatch.setattr(choice, "STILL_CATEGORIES", 8)
    looked_at = []
    inverse_kernel = choice.inverse_kernel

    def spy(shots, constants, weights):
        looked_at.append(shots.labels.tolist())
        return inverse_kernel(shots, constants, weights)

    monkeypatch.setattr(choice, "inverse_kernel", spy)
    assert choose_constants(Shots.of(exemplars, labels, texts)) != choice.PRIOR
    assert set(map(tuple, looked_at)) == {tuple(np.repeat(np.arange(0, 40, 4), 6).tolist())}


def test_rows_are_taken_evenly_first_ones_first():
    labels = np.array([2, 0, 2, 2, 1, 2])
    assert evenly(labels, 4).tolist() == [0, 1, 2, 4]
    assert evenly(labels, 9).tolist() == [0, 1, 2, 3, 4, 5]
    assert evenly(labels, 2).tolist() == [1, 4]
    assert evenly(np.zeros(0, np.int64), 3).tolist() == []


def test_gda_is_the_discriminant_of_its_formula():
    rng = np.random.default_rng(10)
    shots = make_shots(rng, [0, 0, 0, 1, 1, 3, 3], 4, dim=3)
    images = unit(rng, 5, 3)
    predicted = fit("gda", shots.vectors, shots.labels, shots.texts)
    term = predicted(images, np.zeros((5, 4), np.float32))
    means = {c: shots.vectors[shots.labels == c].mean(0) for c in (0, 1, 3)}
    within = np.array([x - means[c] for x, c in zip(shots.vectors, shots.labels.tolist(), strict=True)])
    covariance = within.T @ within / 6
    precision = 3 * np.linalg.inv(6 * covariance + np.trace(covariance) * np.eye(3))

    def discriminants(x):
        found = np.array([[v @ precision @ m - m @ precision @ m / 2 for m in means.values()] for v in x])
        return found - found.mean(1, keepdims=True)

    got = term[:, [0, 1, 3]] - term[:, [0, 1, 3]].mean(1, keepdims=True)
    want = discriminants(images)
    scale = np.linalg.norm(got) / np.linalg.norm(want)
    np.testing.assert_allclose(got, scale * want, atol=1e-4)
    assert (term[:, 2] == 0).all()


def test_baselines_are_their_formulas():
    rng = np.random.default_rng(11)
    shots, images = make_shots(rng, [0, 0, 2], 3), unit(rng, 4, 8)
    zero = np.zeros((4, 3), np.float32)
    scores = {name: fit(name, shots.vectors, shots.labels, shots.texts)(images, zero) for name in HEADS}
    cosines = images @ shots.vectors.T
    np.testing.assert_allclose(scores["nearest"], np.stack([cosines[:, :2].max(1), zero[:, 0] - 1, cosines[:, 2]], 1))
    sstext = np.stack([2 / 3 * (cosines[:, 0] + cosines[:, 1]), zero[:, 0], cosines[:, 2] / 3], 1) / shots.spread
    np.testing.assert_allclose(scores["sstext"], sstext, rtol=1e-4, atol=1e-5)
    kernels = np.exp(-5.5 * (1 - cosines))
    tip = np.stack([kernels[:, :2].sum(1), zero[:, 0], kernels[:, 2]], 1)
    np.testing.assert_allclose(scores["tip"] / tip[0, 0] * tip[0, 0], scores["tip"])
    np.testing.assert_allclose(scores["tip"] * tip[0, 0], tip * scores["tip"][0, 0], rtol=1e-4, atol=1e-6)


def test_shots_keep_their_unit_when_some_are_taken():
    shots = make_shots(np.random.default_rng(12), [0, 1, 1], 3)
    some = shots.take(np.array([1, 2]))
    assert some.spread == shots.spread
    assert some.counts.tolist() == [0, 2, 0]
    assert replace(some, spread=1.0).spread == 1.0
