import pytest

from recognizer.benchmark.distractors import distractors, vocabulary
from recognizer.describing.wordnet.nouns import nouns
from recognizer.errors import RecognizerError

NAMES = ["barn owl", "Motor_Car", "bear"]


def test_no_distractor_is_another_word_for_a_name_or_a_kind_that_it_is_of():
    everything = vocabulary()
    drawn = set(distractors(NAMES, 38_000))
    table = nouns()
    for name in ("barn owl", "motor car", "bear"):
        for sense in table.find(name).senses:
            assert not drawn & {word for row in table.kinds(sense) for word in table.sense(row).words}
    assert {"bird", "car", "vehicle", "barn owl"} <= set(everything)
    assert not {"bird", "car", "vehicle", "barn owl", "bear"} & drawn
    assert {"screech owl", "truck"} <= drawn
    assert len(drawn) == 38_000  # all different


def test_a_smaller_draw_is_the_beginning_of_a_larger_one_and_a_seed_draws_others():
    assert distractors(NAMES, 50) == distractors(NAMES, 500)[:50]
    assert distractors(NAMES, 50) != distractors(NAMES, 50, seed=1)


def test_more_distractors_than_there_are_and_a_root_without_kinds_are_refused():
    with pytest.raises(RecognizerError, match="at most so many"):
        distractors(NAMES, 1_000_000)
    with pytest.raises(RecognizerError, match="no kinds of 'zzz'"):
        vocabulary("zzz")


def test_a_vocabulary_under_a_root_holds_its_kinds_alone():
    birds = vocabulary("bird")
    assert {"barn owl", "penguin"} <= set(birds)
    assert not {"bird", "truck", "bear"} & set(birds)
    assert 500 < len(birds) < 2_000
    animals = set(vocabulary("animal"))  # which stands above the nouns of the table
    assert set(birds) < animals
    assert "truck" not in animals
