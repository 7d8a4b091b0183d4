import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from memory import Category, Description, read_labels
from memory.errors import LabelError
from memory.templates import contains_name
from recognizer.describing.cleaning import LONGEST, MOST, clean
from recognizer.describing.confusing import confusable, name_vectors
from recognizer.describing.describe import NOTHING_LEFT, check_output, described, write_described
from recognizer.describing.joining import join_descriptions, read_descriptions
from recognizer.describing.questions import SCHEMA, question_text, read_answer
from recognizer.describing.sources import NO_LIST, NOT_FOUND, Draft, side_by_side, wordnet_drafts, written_drafts
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem
from rerank.mllm import Failure
from rerank.written import Writer
from tests.memory.fake_encoder import FakeEncoder
from tests.rerank.scripted import ScriptedMllm

LYNX = Category("lynx", aliases=("bobcat",))


@pytest.fixture
def encoder():
    encoder = FakeEncoder()
    encoder.default_templates = ("a {}", "the {}")
    return encoder


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("tufted ears", "tufted ears"),
        ("- tufted  ears.", "tufted ears"),
        ("1) 'tufted ears'", "tufted ears"),
        ("It has tufted ears", "tufted ears"),
        ("has typically tufted ears", "tufted ears"),
        ("The lynx has tufted ears", "tufted ears"),
        ("Bobcats have tufted ears", "tufted ears"),
        ("ears like those of a lynx", None),
        ("lynx", None),
        ("", None),
        ("...", None),
        ("x" * (LONGEST + 1), None),
        ("ears\u202e\nof fur", "ears of fur"),
        ("12 legs", "12 legs"),
    ],
)
def test_texts_are_tidied_and_the_name_is_cut_off_or_the_text_dropped(text, kept):
    assert clean([text], LYNX).texts == ((kept,) if kept else ())


def test_what_is_dropped_is_counted():
    texts = ["red", "Red.", "", "l" * 200, "seen beside a lynx", *(f"part {n} xx" for n in range(12))]
    cleaned = clean(texts, LYNX)
    assert len(cleaned.texts) == MOST
    reasons = {"repeated": 1, "without words": 1, "too long": 1, "with the name": 1, "too many": 3}
    assert cleaned.dropped == reasons


def test_a_name_inside_another_word_stays():
    assert clean(["whiskers of a catfish"], Category("cat")).texts == ("whiskers of a catfish",)


@given(st.lists(st.text(max_size=150)), st.text(min_size=1, max_size=8))
def test_cleaned_texts_are_few_short_distinct_and_without_the_name(texts, name):
    category = Category(name.replace("\0", "x").encode("utf-8", "replace").decode())
    kept = clean(texts, category).texts
    assert len(kept) <= MOST
    assert len({text.casefold() for text in kept}) == len(kept)
    for text in kept:
        assert 0 < len(text) <= LONGEST
        assert not contains_name(text, category.name)
        Description(text)


def test_the_nearest_names_are_confused():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.9, np.sqrt(1 - 0.81)]], np.float32)
    assert confusable(vectors, 2) == [[3, 1], [3, 0], [1, 3], [1, 0]]
    assert confusable(vectors, 9)[0] == [3, 1, 2]
    assert confusable(vectors[:1], 2) == [[]]


def test_many_names_are_compared_in_blocks():
    rows = np.random.default_rng(0).standard_normal((1100, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T - 2 * np.eye(1100, dtype=np.float32)
    assert [row[0] for row in confusable(rows, 1)] == cosines.argmax(1).tolist()


def test_name_vectors_are_means_over_templates_and_aliases(encoder):
    vectors = name_vectors([LYNX, Category("owl")], encoder)
    mean = sum(encoder.vector(text) for text in ("a lynx", "the lynx", "a bobcat", "the bobcat"))
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_question_quotes_names_and_says_what_is_shown():
    evil = Category("x\ny\u202e", group='g"')
    text = question_text(evil, [Category("owl")], shown=False)
    assert '"x y (g\\"")' not in text
    assert '"x y (g\\")"' in text
    assert '"owl"' in text
    assert "\n" not in text
    assert "examples" not in text
    assert "examples" in question_text(evil, [], shown=True)
    assert "similar" not in question_text(evil, [], shown=False)


@pytest.mark.parametrize(
    ("answer", "phrases"),
    [
        ('{"descriptions": ["a", "b"]}', ["a", "b"]),
        ('Sure!\n```json\n{"descriptions": ["a", 3, "b"]}\n```', ["a", "b"]),
        ('["a"]', ["a"]),
        ('<think>["no"]</think> ["a"]', ["a"]),
        ("1. red wings\n2) black feet\n", ["red wings", "black feet"]),
        ("Here it is:\n- red\n* blue", ["red", "blue"]),
        ('{"descriptions": ["whole", "cut of', ["whole"]),
        ("I cannot help with that.", []),
        ("", []),
        ("[1, 2]", []),
        ('{"descriptions": "text"}', ["text"]),
        ("[" * 100_000, []),
        ("{" * 100_000, []),
    ],
)
def test_answers_are_read_in_any_surroundings(answer, phrases):
    assert read_answer(answer) == phrases


@given(st.text())
def test_no_answer_is_fatal(answer):
    assert all(isinstance(phrase, str) for phrase in read_answer(answer))


def answering(request):
    if '"mute"' in request.text:
        return Failure("timeout")
    if '"odd"' in request.text.partition(" and helps")[0]:
        return "I would rather not."
    return json.dumps({"descriptions": ["red wings", "red wings", "black feet", "yellow beak"]})


def test_a_language_model_is_asked_once_per_category_against_the_names_confused_with_it(encoder):
    mllm = ScriptedMllm(write_one=answering)
    categories = [Category(name) for name in ("gull", "odd", "owl")]
    progress = []
    drafts = written_drafts(categories, encoder, Writer(mllm), progress=progress.append)
    assert drafts[0].texts == ("red wings", "red wings", "black feet", "yellow beak")
    assert drafts[1] == Draft(problem=NO_LIST, answer="I would rather not.")
    assert progress == [3]
    assert len(mllm.asked) == 3
    assert all(request.image is None and request.schema == SCHEMA for request in mllm.asked)
    assert all(name in mllm.asked[0].text for name in ("gull", "odd", "owl"))


def test_failures_are_problems_of_their_category(encoder):
    drafts = written_drafts([Category("mute")], encoder, Writer(ScriptedMllm(write_one=answering)))
    assert drafts == [Draft(problem="timeout")]


def items(tmp_path, *sizes):
    found = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size, (200, 10 * number, 10)).save(path)
        found.append(ImageItem(str(path).encode(), str(path).encode()))
    return found


def test_example_images_come_with_the_question(encoder, tmp_path):
    mllm = ScriptedMllm(write_one=lambda request: f'["{request.image.size if request.image else 0}"]')
    gull, owl = Category("gull"), Category("owl")
    images = items(tmp_path, (40, 20), (20, 40), (30, 30))
    drafts = written_drafts([gull, owl], encoder, Writer(mllm), examples={gull.id: images}, image_size=64)
    assert [draft.texts for draft in drafts] == [("(64, 64)",), ("0",)]
    assert "examples" in mllm.asked[-1].text or "examples" in mllm.asked[0].text


def test_a_category_whose_examples_cannot_be_read_is_asked_about_by_text(encoder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"x")
    broken = ImageItem(b"broken", str(tmp_path / "broken.png").encode())
    mllm = ScriptedMllm(write_one=lambda request: f'["{request.image}"]')
    gull, owl = Category("gull"), Category("owl")
    examples = {gull.id: [broken], owl.id: items(tmp_path, (40, 20))}
    drafts = written_drafts([gull, owl], encoder, Writer(mllm), examples=examples, image_size=64)
    assert drafts[0].texts == ("None",)
    assert drafts[1].texts != ("None",)
    assert "examples" not in next(request.text for request in mllm.asked if request.image is None)


def test_examples_stand_beside_each_other_and_broken_ones_are_left_out(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"x")
    broken = ImageItem(b"broken", str(tmp_path / "broken.png").encode())
    one, two = items(tmp_path, (100, 50), (50, 100))
    assert side_by_side([one], 40).size == (40, 20)
    picture = side_by_side([one, broken, two], 40)
    assert picture.size == (40, 20)
    assert picture.getpixel((10, 10)) == (200, 0, 10)
    assert picture.getpixel((30, 10)) == (200, 10, 10)
    with pytest.raises(OSError, match="E_NOT_IMAGE"):
        side_by_side([broken], 40)


def test_wordnet_drafts_are_found_by_name_or_alias(encoder):
    drafts = wordnet_drafts([Category("zebra"), Category("xyzzy"), Category("xyzzy 2", aliases=("zebra",))], encoder)
    assert "equine" in drafts[0].texts
    assert drafts[1] == Draft(problem=NOT_FOUND)
    assert drafts[2].texts == drafts[0].texts


def test_drafts_take_the_place_of_descriptions_and_what_is_missing_is_said():
    old = Category("gull", descriptions=(Description("old"),), metadata={"k": "v"})
    categories = [old, Category("owl"), Category("lynx")]
    drafts = [Draft(("a bb", "c dd", "e ff")), Draft(problem=NOT_FOUND), Draft(("lynx",))]
    done = described(categories, drafts, "s")
    assert [[d.text for d in c.descriptions] for c in done.categories] == [["a bb", "c dd", "e ff"], [], []]
    assert done.categories[0].metadata == {"k": "v"}
    assert done.categories[0].descriptions[0].source == "s"
    assert done.problems == {NOT_FOUND: ["owl"], NOTHING_LEFT: ["lynx"]}
    lines = list(done.lines())
    assert lines[0] == "1 of 3 categories described (33.3%), by 3 descriptions"
    assert "descriptions left out: 1 with" in lines[1]
    assert lines[2] == "1 category without: no visible thing of that name in WordNet, such as 'owl'"


FULL = Category("gull", "birds", (Description("a bb", source="s"),), {"k": "v"}, (), ("seagull",))


def test_files_are_read_back_as_they_were(tmp_path):
    write_described([FULL, Category("owl")], tmp_path / "d.jsonl")
    assert list(read_labels(tmp_path / "d.jsonl")) == [FULL, Category("owl")]
    write_described([FULL, Category("owl")], tmp_path / "d.json")
    assert json.loads((tmp_path / "d.json").read_text()) == {"gull": ["a bb"], "owl": []}
    again = read_descriptions(tmp_path / "d.json")
    assert [(c.name, [d.text for d in c.descriptions]) for c in again] == [("gull", ["a bb"]), ("owl", [])]


def test_files_that_could_not_hold_the_categories_are_refused(tmp_path):
    with pytest.raises(RecognizerError, match=r"written as \.json"):
        check_output(tmp_path / "d.csv", [FULL])
    twice = [FULL, replace(FULL, group="ships")]
    with pytest.raises(RecognizerError, match="'gull' is in 2 groups"):
        check_output(tmp_path / "d.json", twice)
    check_output(tmp_path / "d.jsonl", twice)


def test_descriptions_join_by_name_and_group_and_all_else_stays():
    crane, machine = replace(FULL, name="crane"), Category("crane", "machines", exemplars=("a.jpg",))
    other = [
        Category("crane", "machines", (Description("a hook"),)),
        Category("crane", "", (Description("any crane"), Description("a bb", source="x"))),
        Category("owl", "", (Description("big eyes"),)),
    ]
    joined, sentence = join_descriptions([crane, machine, Category("gull")], other)
    assert [[d.text for d in c.descriptions] for c in joined] == [
        ["a bb", "any crane"],
        ["a hook", "any crane", "a bb"],
        [],
    ]
    assert (joined[0].metadata, joined[0].aliases, joined[1].exemplars) == ({"k": "v"}, ("seagull",), ("a.jpg",))
    assert sentence == "2 of 3 categories described; 1 name without a category, such as 'owl'"
    alone, _ = join_descriptions([crane], other, own=False)
    assert [d.text for d in alone[0].descriptions] == ["any crane", "a bb"]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("d.json", '{"cat": ["whiskers"], "lynx": 5, "dog": ["wet nose"]}', "$['lynx']: expected a list of texts"),
        ("d.json", '[{"name": "cat", "description": "x"}, {"nom": "lynx"}, {"name": "dog"}]', "$[1]: expected an"),
        ("d.jsonl", '{"name": "cat"}\n{"name": "ly\n{"name": "dog"}\n', "line 2: "),
    ],
)
def test_a_bad_entry_of_a_file_of_descriptions_costs_itself_alone(tmp_path, capsys, name, text, place):
    (tmp_path / name).write_text(text)
    assert [category.name for category in read_descriptions(tmp_path / name)] == ["cat", "dog"]
    assert f"{name}: 1 entry left out: {place}" in capsys.readouterr().err
    with pytest.raises(LabelError):  # a label file is right, or not read
        read_labels(tmp_path / name)
    (tmp_path / "bad.json").write_text('{"cat": [1], "dog": [2]}')
    with pytest.raises(LabelError, match="found list"):
        read_descriptions(tmp_path / "bad.json")
