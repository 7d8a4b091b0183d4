import pytest

from tests.training.starter.made_up import plain_composer, write_wordnet
from training.data.side_words import swap_sides
from training.starter.pictures import TRAINING, fold
from training.starter.scene_texts import SceneTexts, Seen, place, with_article


def test_captions_name_what_can_be_seen_and_nothing_else(made_up):
    composer = plain_composer(made_up)
    for number in range(30):
        _, record = composer(number)
        seen = {region.descriptions[0] for region in record.regions}
        for caption in record.captions:
            assert {picture.name for picture in made_up[1] if picture.name in caption} == seen


def test_places_in_captions_are_those_of_the_boxes(made_up):
    composer = plain_composer(made_up, objects=(1, 1))
    for number in range(30):
        _, record = composer(number)
        x0, _, x1, _ = record.regions[0].box_xyxy
        assert ("left" in record.captions[2]) == ((x0 + x1) / 2 < 160 / 3)
        assert ("right" in record.captions[2]) == ((x0 + x1) / 2 >= 320 / 3)


def test_held_out_names_are_never_used():
    with pytest.raises(ValueError, match="fold 0 is held out"):
        SceneTexts((0, 2))


def test_texts_survive_a_mirror(made_up):
    composer = plain_composer(made_up)
    for number in range(30):
        _, record = composer(number)
        texts = [*record.captions, *(text for region in record.regions for text in region.descriptions)]
        assert all(swap_sides(text) is not None for text in texts)


@pytest.mark.parametrize(
    ("box_xyxy", "words"),
    [
        ((0, 0, 30, 30), "at the top left"),
        ((30, 0, 60, 30), "at the top"),
        ((0, 30, 30, 60), "on the left"),
        ((30, 35, 60, 55), "in the centre"),
        ((60, 70, 90, 90), "at the bottom right"),
    ],
)
def test_places_have_their_words(box_xyxy, words):
    assert place(Seen("dog", None, box_xyxy, 90)) == words


def test_articles_fit():
    assert [with_article(text) for text in ("owl", "red owl", "bananas", "bus", "grass", "This is a shell!")] == [
        "an owl", "a red owl", "bananas", "a bus", "a grass", "This is a shell!",
    ]  # fmt: skip


def test_a_synonym_that_is_a_reserved_name_is_not_used(tmp_path):
    wordnet = write_wordnet(tmp_path)
    allowed = {word for word in ("king of beasts", "Leo leo") if {fold(word), fold(word.lower())} <= set(TRAINING)}
    assert set(SceneTexts(TRAINING, wordnet).meanings("lion")) == {*allowed, "large cat"}
    assert allowed, "the example says nothing"
    everything = SceneTexts(TRAINING, wordnet, reserved=[word.upper() for word in allowed])
    assert everything.meanings("lion") == ("large cat",)
