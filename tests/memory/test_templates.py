import pytest

from memory import Category, Description
from memory.templates import bare_text, check_templates, fill_template, grounded_texts, name_texts


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("heron", "long legs", "a photo of a heron, which has long legs"),
        ("heron", "long legs.", "a photo of a heron, which has long legs"),
        ("heron", "has long legs", "a photo of a heron, which has long legs"),
        ("heron", "have long legs", "a photo of a heron, which have long legs"),
        ("heron", "is grey", "a photo of a heron, which is grey"),
        ("heron", "often near water", "a photo of a heron, which often near water"),
        ("heron", "may be blue", "a photo of a heron, which may be blue"),
        ("heron", "a wading bird", "a photo of a heron, which is a wading bird"),
        ("heron", "A wading bird that has legs.", "a photo of a heron, which is a wading bird that has legs"),
        ("moose", "antlers", "a photo of a moose, which has antlers"),  # begins like the article "an"
        ("moose", "isolated habits", "a photo of a moose, which has isolated habits"),  # begins like "is"
        ("heron", "which eats fish", "a photo of a heron, which eats fish"),
        ("heron", "with a crest", "a photo of a heron, with a crest"),
        ("gull", "It is a seabird.", "a photo of a gull. It is a seabird."),
        ("gull", "it swims", "a photo of a gull. it swims"),
        ("gull", "Gull is a seabird", "a photo of a gull. Gull is a seabird"),
        ("gull", "A gull has wings.", "a photo of a gull. A gull has wings."),
        ("gull", "gull wings", "a photo of a gull, which has gull wings"),
        ("gull", "Its wings are white.", "a photo of a gull. Its wings are white."),
        ("gull", "!", "a photo of a gull, which has !"),
        ("polar_bear", "white fur", "a photo of a polar bear, which has white fur"),
    ],
)
def test_a_description_is_attached_to_the_name(name, description, expected):
    category = Category(name)
    assert grounded_texts(category, Description(description), ["a photo of a {}"]) == (expected,)


def test_the_final_period_of_a_template_goes_to_the_end():
    texts = grounded_texts(Category("cat"), Description("whiskers"), ["a {}.", "{c}"])
    assert texts == ("a cat, which has whiskers.", "cat, which has whiskers")


def test_both_placeholders_take_the_name_and_braces_in_names_stay():
    assert name_texts("a_b", ["{} or {c}!", "{x} {}"]) == ("a b or a b!", "{x} a b")
    assert fill_template("{} {c}", "{c}") == "{c} {c}"


@pytest.mark.parametrize("templates", [[], ["a photo"], ["a {}", "b"], "a {}"])
def test_templates_without_a_place_for_the_name_are_refused(templates):
    with pytest.raises(ValueError, match="template"):
        check_templates(templates)


@pytest.mark.parametrize(
    ("name", "sentence", "bare"),
    [
        ("crane", "A crane has long legs.", "has long legs."),
        ("crane", "Cranes have long legs.", "have long legs."),
        ("crane", "In spring, the crane dances.", "In spring, dances."),
        ("crane", "The crane's neck is long.", "neck is long."),
        ("polar_bear", "A polar bear is white.", "is white."),
        ("cat", "A catalogue of things.", "A catalogue of things."),  # only whole words are the name
        ("crane", "Crane.", "Crane."),  # nothing would be left
    ],
)
def test_a_sentence_is_kept_whole_and_its_bare_form_lacks_the_name(name, sentence, bare):
    description = Description(sentence, "sentence")
    assert grounded_texts(Category(name), description, ["a {}", "{}"]) == (sentence,)
    assert bare_text(Category(name), description) == bare


def test_the_bare_form_of_an_attribute_is_the_attribute():
    assert bare_text(Category("cat"), Description("A cat's whiskers.")) == "A cat's whiskers."
