"""Mining of negative labels, the rule that decides by them, and its settings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import Category
from recognizer.describing.wordnet.nouns import nouns
from recognizer.errors import RecognizerError
from recognizer.unknown.mining import CANDIDATES, choose, negative_labels
from recognizer.unknown.rule import NegativesRule, fewest_images, threshold_at
from recognizer.unknown.settings import UnknownSettings
from tests.recognizer.worlds import make_vectors, unit
from tests.reference import slow_known_score

NEGATIVES = negative_labels().names
MEANING = {sense.words[0]: sense.row for sense in nouns().common_senses()}


def chosen(*names):
    mask = choose([Category(name) for name in names])
    return {name for name, is_chosen in zip(NEGATIVES, mask, strict=True) if is_chosen}


def meanings(words):
    return {sense.row for sense in nouns().find(words).senses}


def kinds(rows):
    """All rows above some rows, one step at a time."""
    above = set(rows)
    while more := {up for row in above for up in nouns().sense(row).hypernyms} - above:
        above |= more
    return above


def test_candidates_are_distinct_words_without_proper_names():
    assert len(set(NEGATIVES)) == len(NEGATIVES) == CANDIDATES
    assert all(name == name.lower() for name in NEGATIVES)
    assert not {"Napoleon", "London"} & set(NEGATIVES)


@given(st.lists(st.sampled_from([*NEGATIVES, "bird", "vehicle", "fox"]), min_size=1, max_size=4))
@settings(max_examples=20)
def test_no_label_and_nothing_above_or_below_one_is_negative(labels):
    negatives = chosen(*labels)
    assert not negatives & set(labels)
    label_rows = set().union(*map(meanings, labels))
    above = kinds(label_rows)
    rows = {MEANING[word] for word in sorted(negatives)[::50]}
    assert not rows & above
    assert all(not kinds({row}) & label_rows for row in rows)


def test_words_around_a_noun_do_not_hide_it():
    birds = {name for name in NEGATIVES[::5] if kinds({MEANING[name]}) & meanings("bird")}
    assert len(birds) > 5
    assert not chosen("a colourful bird on a branch") & birds
    assert chosen("guitar") & birds


def test_an_alias_is_a_label_too():
    word = sorted(chosen("guitar"))[0]
    mask = choose([Category("guitar", aliases=(word,))])
    assert word not in {name for name, is_chosen in zip(NEGATIVES, mask, strict=True) if is_chosen}


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    made = make_vectors(rng, [0, 1, 0, 2], [6, 7, 6, 6])
    return replace(made, negatives=unit(rng, 5, 8), negative_names=list("abcde"))


def test_known_scores_are_those_of_the_loops(vectors):
    images = unit(np.random.default_rng(1), 6, 8)
    known = NegativesRule(vectors, UnknownSettings(), 0.4).measure(images)
    expected = [slow_known_score(image, vectors.names, vectors.negatives, 0.4) for image in images]
    assert known.scores == pytest.approx([score for score, *_ in expected], rel=1e-5)
    assert known.categories.tolist() == [category for _, category, _ in expected]
    assert known.negatives.tolist() == [negative for *_, negative in expected]


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_more_negative_labels_only_lower_the_known_score(count, seed):
    rng = np.random.default_rng(seed)
    world = make_vectors(rng, [0, 0, 0])
    negatives, images = unit(rng, 5, 8), unit(rng, 3, 8)
    few, all_of_them = (
        NegativesRule(replace(world, negatives=some, negative_names=["x"] * len(some)), UnknownSettings(), 0.05)
        for some in (negatives[:count], negatives)
    )
    assert (all_of_them.measure(images).scores <= few.measure(images).scores * (1 + 1e-4)).all()


def test_an_image_is_scored_alone(vectors):
    rule = NegativesRule(vectors, UnknownSettings(), 0.05)
    images = unit(np.random.default_rng(2), 4, 8)
    together = rule.measure(images).scores
    assert [rule.measure(image[None]).scores[0] for image in images] == together.tolist()


@given(st.integers(0, 200), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_a_threshold_calls_at_most_the_rate_of_exchangeable_images_unknown(count, rate):
    scores = np.random.default_rng(count).permutation(count + 1).astype(float)
    # Each of the n + 1 images in turn is the new one.
    called = 0
    for new in range(count + 1):
        threshold = threshold_at(np.delete(scores, new), rate)
        assert (threshold is None) == (count < fewest_images(rate))
        called += threshold is not None and scores[new] < threshold
    assert called <= rate * (count + 1) + 1e-9
    assert called >= rate * (count + 1) - 1 or count < fewest_images(rate)


def test_the_threshold_is_the_fitted_one_or_of_the_exemplars(vectors):
    scores = NegativesRule(vectors, UnknownSettings(), 0.05).measure(vectors.exemplars).scores
    by_exemplars = NegativesRule(vectors, UnknownSettings(rate=0.1), 0.05)
    assert (by_exemplars.threshold, by_exemplars.source) == (sorted(scores)[1], "exemplars")
    fitted = UnknownSettings(rate=0.1, threshold=0.3, fitted_for=0.1)
    assert NegativesRule(vectors, fitted, 0.05).threshold == 0.3
    assert NegativesRule(vectors, fitted, 0.05, comparable=False).source == "exemplars"
    other_rate = fitted.model_copy(update={"rate": 0.2})
    assert NegativesRule(vectors, other_rate, 0.05).source == "exemplars"
    too_few = NegativesRule(vectors, UnknownSettings(rate=0.02), 0.05)
    assert (too_few.threshold, too_few.source) == (None, None)
    assert "49 exemplars" in too_few.advice()
    assert by_exemplars.advice() is None


def test_rows_say_what_decided(vectors):
    rule = NegativesRule(vectors, UnknownSettings(threshold=0.5), 0.05)
    name, negative = rule.rows(np.stack([vectors.names[2], vectors.negatives[3]]))
    assert (name.category, name.unknown) == ("name 2", False)
    assert (negative.negative, negative.unknown) == ("d", True)
    assert NegativesRule(vectors, UnknownSettings(rate=0.02), 0.05).rows(vectors.names)[0].unknown is None


def test_images_give_a_threshold_that_none_above_it_falls_below(vectors):
    rule = NegativesRule(vectors, UnknownSettings(rate=0.1), 0.05)
    images = unit(np.random.default_rng(3), 30, 8)
    fitted = rule.fit(images)
    called = rule.measure(images).scores < fitted.threshold
    assert called.sum() == 2  # floor(0.1 * 31) = 3 is the place of the threshold itself
    assert fitted.usable_threshold == fitted.threshold
    assert rule.fit(images[:8]) is None


def test_auto_is_negatives_where_there_are_some(vectors):
    def rule(name, made):
        return NegativesRule.of_settings(made, UnknownSettings(rule=name), 0.05)

    plain = make_vectors(np.random.default_rng(0), [0, 0])
    assert rule("auto", vectors) is not None
    assert rule("auto", plain) is rule("confidence", vectors) is None
    assert rule("negatives", vectors.take(np.zeros(0, np.int64))) is None
    with pytest.raises(RecognizerError, match="--unknown negatives"):
        rule("negatives", plain)


def test_defaults_decide_nothing():
    assert UnknownSettings().decisive() == {}
    assert UnknownSettings(rule="confidence", rate=0.1).decisive() == {"rule": "confidence", "rate": 0.1}
