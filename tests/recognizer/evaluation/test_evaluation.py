import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from memory import Category, Description, Memory
from memory.templates import grounded_texts
from memory.vectors import unit_mean
from recognizer import Recognizer
from recognizer.building import build_memory
from recognizer.evaluation.evaluate import (
    CONTROL,
    RANDOM,
    Change,
    ClassRecall,
    Evaluation,
    change,
    describe_anew,
    evaluate,
    random_words,
    shuffled,
)
from recognizer.evaluation.labelled import LabelledImages, LabelledSetError, match_labels, read_labelled
from recognizer.evaluation.report import print_lines, write_json, write_per_class
from recognizer.prior import Prior
from recognizer.settings import load_settings

SHOWN = {"cat": "tabby_cat", "coffee": "cup of coffee", "rocket": "rocket launch", "astronaut": "Astronaut"}


@pytest.fixture
def labelled_folder(tmp_path, photos):
    for name, label in SHOWN.items():
        (tmp_path / "set" / label).mkdir(parents=True)
        shutil.copy(photos / f"{name}.jpg", tmp_path / "set" / label / "1.jpg")
    return tmp_path / "set"


def test_rows_switch_the_terms_on_one_after_the_other(demo_recognizer, labelled_folder, tmp_path):
    (labelled_folder / "tabby_cat" / "broken.jpg").write_bytes(b"x")
    (labelled_folder / "no such thing").mkdir()
    shutil.copy(labelled_folder / "tabby_cat" / "1.jpg", labelled_folder / "no such thing" / "1.jpg")
    labelled = match_labels(read_labelled(labelled_folder), demo_recognizer.memory.vectors.categories)
    evaluation = evaluate(demo_recognizer, labelled)
    assert list(evaluation.rows) == ["names", "+ descriptions", CONTROL, RANDOM, "+ regions"]
    assert evaluation.rows["+ regions"].top5.value == 1
    assert evaluation.images == 4
    assert evaluation.failed == {"E_NOT_IMAGE": 1}
    assert evaluation.unmatched == {"no such thing": 1}

    text = "\n".join(print_lines(evaluation))
    assert "1 image left out: true name not in the memory ('no such thing' 1)" in text
    write_json(evaluation, tmp_path / "e.json")
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert rows["names"]["top1"] == evaluation.rows["names"].top1.value
    write_per_class(evaluation, tmp_path / "e.csv")
    assert (tmp_path / "e.csv").read_text().splitlines()[0] == "category,images,top1,top5"


def test_a_prior_has_a_row_of_its_own_and_an_excluded_category_is_never_right(starter, demo_memory, labelled_folder):
    memory = Memory.open(demo_memory)
    names = [category.name for category in memory.vectors.categories]
    logarithms = np.full(len(names), -np.inf)
    logarithms[[names.index("tabby cat"), names.index("lawn")]] = 0
    recognizer = Recognizer(starter, memory, prior=Prior(logarithms, ""))
    evaluation = evaluate(recognizer, match_labels(read_labelled(labelled_folder), memory.vectors.categories))
    assert list(evaluation.rows)[-2:] == ["+ regions", "+ prior"]
    assert evaluation.rows["+ regions"].top5.value == 1
    assert evaluation.rows["+ prior"].top5.value == 0.25


def test_groups_are_measured_with_the_score_of_the_settings(starter, labelled_folder, tmp_path):
    groups = ("thing > animal", "thing", "thing", "")
    names = [name.replace("_", " ").lower() for name in SHOWN.values()]
    categories = [Category(name, group) for name, group in zip(names, groups, strict=True)]
    memory = Memory.build(categories, tmp_path / "memory", encoder=starter, templates=["{}"])
    recognizer = Recognizer(starter, memory)
    evaluation = evaluate(recognizer, match_labels(read_labelled(labelled_folder), memory.vectors.categories))
    rows = list(recognizer.recognize(sorted(labelled_folder.glob("*/*.jpg"))))
    settings = load_settings(overrides=["score.roll_up=0.65"])
    rolled = list(Recognizer(starter, memory, settings=settings).recognize(sorted(labelled_folder.glob("*/*.jpg"))))
    figures = evaluation.roll_up.figures
    assert evaluation.roll_up.thresholds == (0.65,)
    assert figures.answered == sum(row.label is not None for row in rolled) / 4
    assert figures.category == sum(row.source == "category" for row in rolled) / 4
    assert figures.category == sum(row.confidence >= 0.65 for row in rows) / 4
    text = "\n".join(print_lines(evaluation))
    assert "rolled up (the category from confidence 0.65 on, else the lowest group" in text
    assert "answered with a precision of 98%" in text
    write_json(evaluation, tmp_path / "e.json")
    content = json.loads((tmp_path / "e.json").read_text())["roll_up"]
    assert content["answered"] == figures.answered
    assert set(content["coverage"]) == {"0.95", "0.98"}


def test_groups_are_measured_with_what_a_prior_adds_to_the_score(starter, labelled_folder, tmp_path):
    names = [name.replace("_", " ").lower() for name in SHOWN.values()]
    groups = ("animal", "thing", "thing", "thing")
    categories = [Category(name, group) for name, group in zip(names, groups, strict=True)]
    memory = Memory.build(categories, tmp_path / "memory", encoder=starter, templates=["{}"])
    logarithms = np.array([8.0 if c.name == names[0] else 0.0 for c in memory.vectors.categories])
    settings = load_settings(overrides=["score.roll_up=0.65"])
    recognizer = Recognizer(starter, memory, settings=settings, prior=Prior(logarithms, ""))
    labelled = match_labels(read_labelled(labelled_folder), memory.vectors.categories)
    rows = list(recognizer.recognize(sorted(labelled_folder.glob("*/*.jpg"))))
    assert sum(row.label == names[0] for row in rows) > 1  # the prior decides
    figures = evaluate(recognizer, labelled).roll_up.figures
    assert figures.answered == sum(row.label is not None for row in rows) / 4
    assert figures.category == sum(row.source == "category" for row in rows) / 4


def test_exemplar_that_is_the_query_does_not_answer_for_it(starter, labelled_folder, tmp_path):
    categories = [Category(name.replace("_", " ").lower()) for name in SHOWN.values()]
    folder = tmp_path / "memory"
    build_memory(categories, folder, encoder=starter, exemplars=labelled_folder)
    memory = Memory.open(folder)
    assert memory.info().exemplars == 4
    assert memory.settings["score"] == {"head": "proker", "head_beta": 1.0, "head_ridge": 0.3}
    recognizer = Recognizer(starter, memory)
    evaluation = evaluate(recognizer, match_labels(read_labelled(labelled_folder), memory.vectors.categories))
    assert list(evaluation.rows) == ["names", "+ regions", "+ exemplars"]
    # each image is its category's only exemplar: left out, the term can only speak for the others
    scorer = recognizer.scorer
    image = starter.encode_images([Image.open(labelled_folder / "tabby_cat" / "1.jpg")])
    row = [c.name for c in memory.vectors.categories].index("tabby cat")
    own = memory.vectors.exemplar_hashes[memory.vectors.exemplar_offsets[row]]
    assert scorer.exemplar_term(image.image)[0].argmax() == row
    assert scorer.exemplar_term(image.image, [own])[0, row] <= 0


def test_the_memory_s_own_descriptions_anew_are_the_memory_s_vectors(demo_recognizer, starter):
    vectors = demo_recognizer.memory.vectors
    again = describe_anew(demo_recognizer.memory, starter, [c.descriptions for c in vectors.categories])
    np.testing.assert_allclose(again.grounded, vectors.grounded, atol=1e-5)
    np.testing.assert_array_equal(again.bare, vectors.bare)
    np.testing.assert_array_equal(again.offsets, vectors.offsets)
    assert list(again.descriptions) == list(vectors.descriptions)


def test_other_descriptions_are_encoded_alone_and_with_the_name(demo_recognizer, starter):
    memory = demo_recognizer.memory
    described = [[Description("long ears")] if row == 2 else [] for row in range(len(memory.vectors.categories))]
    vectors = describe_anew(memory, starter, described)
    assert vectors.offsets.tolist() == [0, 0, 0] + [1] * (len(described) - 2)
    np.testing.assert_allclose(vectors.bare, starter.encode_texts(["long ears"]), atol=1e-4)
    texts = grounded_texts(memory.vectors.categories[2], Description("long ears"), memory.templates)
    np.testing.assert_allclose(
        vectors.grounded, unit_mean(starter.encode_texts(list(texts)), np.array([len(texts)]), ["x"]), atol=1e-4
    )


def described_by(*texts):
    return [[Description(text) for text in own] for own in texts]


def test_shuffled_descriptions_come_from_another_category():
    own = described_by(["a", "b"], [], ["c"], ["d", "e", "f"])
    for seed in range(5):
        other = shuffled(own, seed=seed)
        assert not other[1]
        assert sorted(each.text for texts in other for each in texts) == list("abcdef")
        assert all(not set(mine) & set(yours) for mine, yours in zip(own, other, strict=True))


def test_random_words_are_those_of_the_file_in_descriptions_as_long():
    own = described_by(["red wings", "a long grey tail"], [], ["ears"])
    drawn = [random_words(own, seed=seed) for seed in range(20)]
    for other in drawn:
        assert [[len(each.text.split()) for each in texts] for texts in other] == [[2, 4], [], [1]]
    words = {word for other in drawn for texts in other for each in texts for word in each.text.split()}
    assert words == {"red", "wings", "a", "long", "grey", "tail", "ears"}
    assert drawn[0] == random_words(own, seed=0) != drawn[1]


def test_categories_are_helped_or_hurt_by_their_recall():
    truth = np.array([4, 4, 7, 8, 9, 9])
    before, after = np.array([1, 2, 3, 1, 1, 2]), np.array([1, 1, 2, 5, 2, 1])
    assert change(before, after, truth) == Change(helped=0.25, hurt=0.25)
    assert change(before, before, truth) == Change(0, 0)


def test_each_source_has_rows_as_if_it_alone_described_the_memory(demo_recognizer, starter, labelled_folder, tmp_path):
    own = demo_recognizer.memory.vectors.categories
    labelled = match_labels(read_labelled(labelled_folder), own)
    described = [Category("tabby cat", descriptions=(Description("striped fur"),)), Category("no such thing")]
    bare = [Category(c.name, c.group) for c in own]
    names = [Category("tabby cat", descriptions=(Description("striped fur"),)), *bare]
    evaluation = evaluate(demo_recognizer, labelled, sources={"a.json": described, "empty": bare})
    rows = [name for name in evaluation.rows if name.startswith("a.json: ")]
    assert rows == [f"a.json: {name}" for name in ("+ descriptions", CONTROL, RANDOM, "+ regions")]
    assert not any(name.startswith("empty") for name in evaluation.rows)
    memory = Memory.build(names, tmp_path / "alone", encoder=starter, templates=demo_recognizer.memory.templates)
    alone = evaluate(Recognizer(starter, memory), labelled)
    assert evaluation.rows["a.json: + descriptions"] == alone.rows["+ descriptions"]
    assert evaluation.rows["a.json: + regions"] == alone.rows["+ regions"]
    assert evaluation.changes.keys() == evaluation.rows.keys() - {"names"}
    assert "categories helped, hurt" in "\n".join(print_lines(evaluation))


def test_table_of_paths_and_labels(tmp_path, photos):
    table = tmp_path / "set.csv"
    table.write_text(f"path,label\n{photos / 'cat.jpg'},tabby cat\n")
    labelled = read_labelled(table)
    assert labelled.labels == ["tabby cat"]
    table.write_text("key,label\na.jpg,x\n")
    with pytest.raises(LabelledSetError, match="needs the columns path and label; it has key, label"):
        read_labelled(table)


@pytest.fixture
def birds(tmp_path):
    """Files without content; only their names matter here."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "Path,Label\na.jpg,stork\nb.jpg,crane\n",
        "path;label\na.jpg;stork\nb.jpg;crane\n",
        "path\tlabel\na.jpg\tstork\nb.jpg\tcrane\n",
        "filepath,title\na.jpg,stork\nb.jpg,crane\n",
        '"Image Name";"Species"\r\na.jpg;stork\r\nb.jpg;crane\r\n',
        "id,class,file_name\n1,stork,a.jpg\n2,crane,b.jpg\n",
        "image,label,name\na.jpg,stork,x\nb.jpg,crane,y\n",
        "\ufeffpath,label,,\na.jpg,stork,,\n,,,\nb.jpg,crane,,,\n",
        "# by hand\npath,label\na.jpg,stork\n\nb.jpg,crane\n",
    ],
)
def test_a_table_of_any_tool_is_read(birds, capsys, text):
    (birds / "set.csv").write_text(text, encoding="utf-8")
    labelled = read_labelled(birds / "set.csv")
    assert [item.key for item in labelled.items] == ["a.jpg", "b.jpg"]
    assert labelled.labels == ["stork", "crane"]
    assert capsys.readouterr().err == ""


def test_two_columns_that_may_hold_the_label_are_refused(birds):
    (birds / "set.csv").write_text("path,species,category\na.jpg,stork,bird\n")
    with pytest.raises(LabelledSetError, match="columns species and category may all hold the label; call one of them"):
        read_labelled(birds / "set.csv")


def test_missing_files_are_named(birds, capsys):
    (birds / "set.csv").write_text("path,label\na.jpg,stork\n" + "".join(f"x{n}.jpg,x\n" for n in range(9)))
    assert read_labelled(birds / "set.csv").labels == ["stork"]
    warning = capsys.readouterr().err
    assert "line 3 (there is no file x0.jpg), line 4 (there is no file x1.jpg)" in warning
    assert "and 4 more; rows used: 1" in warning
    (birds / "set.csv").write_text("path,label\nx.jpg,stork\n")
    with pytest.raises(LabelledSetError, match=r"no rows that can be used: line 2 \(there is no file x\.jpg\)"):
        read_labelled(birds / "set.csv")


def test_a_photograph_is_no_labelled_set(photos):
    with pytest.raises(LabelledSetError, match=r"this is a JPEG image\. .*Labelled images are FOLDER/LABEL/IMAGE"):
        read_labelled(photos / "cat.jpg")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("b.jpg", "line 3 (1 of 3 fields)"),
        ("b.jpg,crane,tall,", None),
        ("b.jpg,crane", None),
        ("b.jpg,crane,tall,bird", "line 3 (more fields than the header)"),
        (",crane,", "line 3 (no path)"),
        ("b.jpg, ,x", "line 3 (no label)"),
        ("b\0.jpg,crane,", "line 3 (a zero byte in the path)"),
        ('"b"x,crane,', "line 3 (',' expected after '\"')"),
        ("", None),
    ],
)
def test_a_bad_line_of_a_table_is_named_and_the_others_are_used(birds, capsys, line, said):
    table = birds / "set.csv"
    table.write_text(f"path,label,note\na.jpg,stork,\n{line}\nc.jpg,heron,\n")
    labelled = read_labelled(table)
    assert [label for label in labelled.labels if label != "crane"] == ["stork", "heron"]
    warning = capsys.readouterr().err
    assert warning == (f"warning: {table}: left out: {said}; rows used: 2\n" if said else "")
    assert ("crane" in labelled.labels) == (said is None and line != "")


def test_an_open_quote_takes_the_rest_of_the_table_along_and_says_so(birds, capsys):
    table = birds / "set.csv"
    table.write_text('path,label\na.jpg,stork\n"b.jpg,crane\nc.jpg,heron\n')
    assert read_labelled(table).labels == ["stork"]
    assert "line 3 (unexpected end of data); rows used: 1" in capsys.readouterr().err


def test_a_table_without_a_good_row_is_refused(tmp_path):
    (tmp_path / "set.csv").write_text("path,label\na.jpg\n")
    with pytest.raises(LabelledSetError, match="no rows that can be used"):
        read_labelled(tmp_path / "set.csv")


@pytest.mark.parametrize(
    ("label", "row"),
    [
        ("baseball_base", 0),
        ("home plate", 0),
        ("Baseball  Base", 0),
        ("Home_Plate", 0),
        ("plate", 1),
        ("annual crop", 2),
    ],
)
def test_labels_match_names_before_aliases_and_as_words(label, row):
    categories = [
        Category("baseball_base", aliases=("home plate", "plate")),
        Category("plate", aliases=("dish",)),
        Category("AnnualCrop"),
    ]
    assert match_labels(LabelledImages([None], [label]), categories).rows == [row]


def test_an_alias_of_two_categories_is_refused():
    categories = [Category("a", aliases=("x",)), Category("b", aliases=("x",))]
    with pytest.raises(LabelledSetError, match="'a' of group '', 'b' of group ''"):
        match_labels(LabelledImages([None], ["x"]), categories)


def test_labels_that_fit_nothing_or_two_categories_are_refused(tmp_path):
    one = LabelledImages([None], ["crane"])
    with pytest.raises(LabelledSetError, match="none of 1 label "):
        match_labels(one, [Category("stork")])
    with pytest.raises(LabelledSetError, match="several categories"):
        match_labels(one, [Category("crane", group="bird"), Category("crane", group="machine")])


def test_nothing_decodable_is_an_error(demo_recognizer, tmp_path):
    (tmp_path / "tabby cat").mkdir()
    (tmp_path / "tabby cat" / "1.jpg").write_bytes(b"")
    labelled = match_labels(read_labelled(tmp_path), demo_recognizer.memory.vectors.categories)
    with pytest.raises(ValueError, match="E_EMPTY"):
        evaluate(demo_recognizer, replace(labelled))


def test_recall_table_holds_no_formula(tmp_path):
    recall = [ClassRecall("=cmd()", 1, 1.0, 1.0)]
    write_per_class(Evaluation({}, 1, {}, {}, recall, [], {}), tmp_path / "e.csv")
    assert (tmp_path / "e.csv").read_text().splitlines()[1] == "'=cmd(),1,1.0,1.0"


def test_a_folder_of_labels_counts_what_it_leaves_out(labelled_folder, capsys):
    labelled = read_labelled(labelled_folder)
    assert capsys.readouterr().err == ""
    shutil.copy(labelled_folder / "tabby_cat" / "1.jpg", labelled_folder / "alone.jpg")
    (labelled_folder / "tabby_cat" / "film.mp4").touch()
    assert len(read_labelled(labelled_folder).items) == len(labelled.items)
    said = capsys.readouterr().err
    assert "images outside the folders of labels are left out: 1\n" in said
    assert "set: left out: 1 video\n" in said
