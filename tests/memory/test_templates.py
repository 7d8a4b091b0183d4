import pytest

from memory import Category, Description
from memory.templates import bare_text, check_templates, fill_template, grounded_texts, name_texts, prompt_name


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("heron", "long legs", "a photo of a heron, long legs"),
        ("heron", " long legs. ", "a photo of a heron, long legs"),
        ("heron", "is grey", "a photo of a heron, is grey"),
        ("heron", "A wading bird that has legs.", "a photo of a heron, A wading bird that has legs"),
        ("gull", "!", "a photo of a gull, !"),
        ("polar_bear", "white_fur", "a photo of a polar bear, white_fur"),
    ],
)
def test_a_description_follows_the_name_after_a_comma(name, description, expected):
    assert grounded_texts(Category(name), Description(description), ["a photo of a {}"]) == (expected,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AnnualCrop", "annual crop"),
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("baseball_base", "baseball base"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("n02084071 dog", "dog"),
        ("n02085620-German_shepherd", "German shepherd"),
        ("n02084071", "n02084071"),
        ("7.Up", "7.Up"),
        ("2001.5 km", "2001.5 km"),
        ("iPhone", "iPhone"),
        ("McDonald", "McDonald"),
        ("Forest", "Forest"),
        ("BMW", "BMW"),
        ("Red Fox", "Red Fox"),
    ],
)
def test_names_are_prompted_as_words(name, words):
    assert prompt_name(name) == words


def test_the_names_of_a_category_are_all_prompted_and_each_once():
    category = Category("aerosol_can", aliases=("spray_can", "aerosol can"))
    assert name_texts(category, ["a {}.", "{}"]) == ("a aerosol can.", "aerosol can", "a spray can.", "spray can")


def test_the_final_period_of_a_template_goes_to_the_end():
    texts = grounded_texts(Category("cat"), Description("whiskers"), ["a {}.", "{c}"])
    assert texts == ("a cat, whiskers.", "cat, whiskers")


def test_both_placeholders_take_the_name_and_braces_in_names_stay():
    assert name_texts(Category("a_b"), ["{} or {c}!", "{c}"]) == ("a b or a b!", "a b")
    assert fill_template("{} {c}", "{c}") == "{c} {c}"


@pytest.mark.parametrize(
    "templates", [[], ["a photo"], ["a {}", "b"], "a {}", ["a {label}"], ["a {} of {name}"], ["a {0}"], ["a %s, {}"]]
)
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
