"""Corrections of other tools: which row or box each entry is about, and what is left out."""

import json
from dataclasses import replace

import pytest

from memory import Category
from recognizer.corrections.imports import read_any
from recognizer.corrections.log import Correction, CorrectionsUnusable
from recognizer.report.exports import export_results
from recognizer.reranking.file import read_results
from recognizer.results.reading import open_stored
from tests.recognizer.report.runs import draw_image, result, write_run

BOX = (20.0, 10.0, 60.0, 30.0)
KNOWN = [Category("owl", "bird"), Category("cat"), Category("jaguar", "cars"), Category("jaguar", "cats")]


@pytest.fixture
def earlier(tmp_path):
    """Results about whole images: a.jpg, and d/b.jpg whose label is a group."""
    rows = [
        result("a.jpg", [("jaguar", "cats"), "cat"], size_wh=(200, 100)),
        result("d/b.jpg", [("owl", "bird")], label="bird", source="rolled up", label_path="bird"),
    ]
    return results(tmp_path, rows)


@pytest.fixture
def boxed(tmp_path):
    rows = [result("a.jpg", ["cat"], size_wh=(200, 100), box=(name, BOX)) for name in ("1",)]
    return results(tmp_path, [*rows, result("a.jpg", ["owl"], size_wh=(200, 100), box=("2", (0, 0, 9, 9)))])


def results(folder, rows):
    for path in {row.path for row in rows}:
        draw_image(folder / "photos" / path)
    return read_results(write_run(folder / "r.jsonl", rows, folder / "photos"))


def table(folder, text, earlier, name="c.csv"):
    (folder / name).write_text(text)
    read, problems = read_any(folder / name, earlier, lambda: KNOWN)
    return read.all, problems


def studio(folder, earlier, *annotations, task=None):
    """Read an export with one task about a.jpg, which has these annotations."""
    tasks = [task or {"data": {"image": "/d/x", "path": "a.jpg"}, "annotations": list(annotations)}]
    (folder / "ls.json").write_text(json.dumps(tasks))
    read, problems = read_any(folder / "ls.json", earlier, lambda: KNOWN)
    return read.all, problems


def annotation(*regions, **more):
    return {"result": list(regions), **more}


def rectangle(label, corners, *, size=(200, 100), **more):
    x0, y0, x1, y1 = (100 * edge / side for edge, side in zip(corners, size * 2, strict=True))
    value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0, "rectanglelabels": [label]}
    frame = {"original_width": size[0], "original_height": size[1]}
    return {"type": "rectanglelabels", "value": value, **frame, **more}


def choice(*labels, **more):
    return {"type": "choices", "value": {"choices": list(labels)}, **more}


def test_a_table_names_rows_by_path_or_file_and_its_bad_lines_cost_themselves(tmp_path, earlier):
    text = (
        "label,path\nCat,a.jpg\nnew thing,d/b.jpg\n,a.jpg\ncat,\ncat,gone.jpg\nbird,d/b.jpg\n"
        f"Owl,photos/d/b.jpg\nowl,{tmp_path}/photos/a.jpg\n"
    )
    said, problems = table(tmp_path, text, earlier)
    assert [(one.path, one.new, one.group, one.old, one.box) for one in said] == [
        ("a.jpg", "cat", "", "jaguar", None),
        ("d/b.jpg", "new thing", "", "bird", None),
        ("d/b.jpg", "owl", "bird", "bird", None),
        ("a.jpg", "owl", "bird", "jaguar", None),
    ]
    assert [sentence.partition(":")[0] for sentence in problems] == [f"line {line}" for line in (4, 5, 6, 7)]
    assert "no image 'gone.jpg'" in problems[2]
    assert "is a group" in problems[3]
    assert table(tmp_path, text, earlier)[0] == said


def test_a_name_of_several_groups_is_that_of_a_candidate(tmp_path, earlier):
    said, problems = table(tmp_path, "path;label\na.jpg;jaguar\nd/b.jpg;jaguar\n", earlier)
    assert [(one.path, one.group, one.verified) for one in said] == [("a.jpg", "cats", True)]
    assert "several groups" in problems[0]


def test_a_table_is_about_boxes_by_corners_or_id(tmp_path, boxed):
    text = "path\tlabel\tbox_id\txmin\tymin\txmax\tymax\na.jpg\tcat\t\t20.4\t9.8\t60\t30\na.jpg\tcat\t2\t\t\t\t\n"
    text += "a.jpg\tcat\t\t20\t10\t64\t30\na.jpg\tcat\t3\t\t\t\t\na.jpg\tcat\t\t1\t2\t\t\na.jpg\tcat\t\t9\t9\t5\t9\n"
    said, problems = table(tmp_path, text, boxed, "c.tsv")
    assert [(one.box, one.xyxy, one.old) for one in said[:2]] == [("1", None, "cat"), ("2", None, "owl")]
    assert said[2].xyxy == (20.0, 10.0, 64.0, 30.0)  # an edge was moved: another box
    assert said[2].old is None
    assert len(said) == len(problems) == 3


def test_results_are_not_corrections(tmp_path, earlier):
    export_results(open_stored(tmp_path / "r.jsonl"), tmp_path / "c.csv", "csv")
    with pytest.raises(CorrectionsUnusable, match="results of `run`"):
        read_any(tmp_path / "c.csv", earlier, lambda: KNOWN)
    with pytest.raises(CorrectionsUnusable, match="a row of results is no correction"):
        read_any(tmp_path / "r.jsonl", earlier, lambda: KNOWN)
    (tmp_path / "tasks.json").write_text(json.dumps([{"data": {"image": "elsewhere.jpg"}, "predictions": []}]))
    with pytest.raises(CorrectionsUnusable, match="task 1 is no task with annotations"):
        read_any(tmp_path / "tasks.json", earlier, lambda: KNOWN)


def test_the_latest_annotation_of_a_task_counts_and_skipped_ones_do_not(tmp_path, earlier):
    said, problems = studio(
        tmp_path,
        earlier,
        annotation(choice("cat"), updated_at="2026-02-02T00:00:00Z"),
        annotation(choice("owl"), updated_at="2026-02-01T00:00:00Z"),
        annotation(choice("dog"), was_cancelled=True, updated_at="2026-02-03T00:00:00Z"),
    )
    assert [(one.new, one.time) for one in said] == [
        ("owl", "2026-02-01T00:00:00Z"),
        ("cat", "2026-02-02T00:00:00Z"),
    ]
    assert problems == []


def test_predictions_that_were_accepted_come_back_as_their_rows(tmp_path, boxed):
    export_results(open_stored(tmp_path / "r.jsonl"), tmp_path / "ls.json", "labelstudio", prefix="http://x/")
    (task,) = json.loads((tmp_path / "ls.json").read_text())
    said, problems = studio(tmp_path, boxed, task={**task, "annotations": task["predictions"]})
    assert [(one.key, one.new, one.verified) for one in said] == [("a.jpg#1", "cat", True), ("a.jpg#2", "owl", True)]
    assert problems == []


def test_a_rectangle_of_another_size_of_the_image_is_scaled_and_one_that_was_turned_left_out(tmp_path, earlier):
    said, problems = studio(
        tmp_path,
        earlier,
        annotation(
            rectangle("cat", (40, 20, 120, 60), size=(400, 200)),
            rectangle("cat", (40, 20, 120, 60), size=(200, 400)),  # that of the stored image
            rectangle("cat", BOX, image_rotation=90),
            rectangle("cat", (20, 10, 20, 30)),
            choice("cat", "owl"),
            {"type": "textarea", "value": {"text": ["a"]}},
        ),
    )
    assert [(one.xyxy, one.new, one.old) for one in said] == [(BOX, "cat", None)]
    assert len(problems) == 5
    assert "turned" in problems[0]


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"data": {"image": "gone.jpg"}, "annotations": []}, "no image 'gone.jpg'"),
        ({"data": {"image": "a.jpg"}, "annotations": [{"result": []}]}, "empty"),
        ({"image": "a.jpg", "label": "cat"}, "export the project as JSON"),
        ("text", "export the project as JSON"),
    ],
)
def test_a_task_that_cannot_be_used_is_named(tmp_path, earlier, task, problem):
    with pytest.raises(CorrectionsUnusable, match=problem):
        studio(tmp_path, earlier, task=task)


def test_a_log_is_read_as_it_is(tmp_path, earlier):
    one = Correction(id="1", path="a.jpg", new="cat")
    (tmp_path / "c.jsonl").write_bytes(one.to_line() + b"junk\n")
    read, problems = read_any(tmp_path / "c.jsonl", earlier, lambda: KNOWN)
    assert read.all == [one]
    assert problems == ["1 line, the first of them line 2: Expecting value: line 1 column 1 (char 0)"]
    for name, content in (("x.json", b"[1"), ("y.csv", b"\xff\xff"), ("z.csv", b"path,label\n,\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorrectionsUnusable):
            read_any(tmp_path / name, earlier, lambda: KNOWN)
    with pytest.raises(CorrectionsUnusable, match="cannot be read"):
        read_any(tmp_path / "none.json", earlier, lambda: KNOWN)


def test_an_image_of_unknown_size_has_no_rectangles(tmp_path):
    rows = [replace(result("a.jpg", ["cat"]), width=None, height=None)]
    with pytest.raises(CorrectionsUnusable, match="how large"):
        studio(tmp_path, results(tmp_path, rows), annotation(rectangle("cat", BOX)))
