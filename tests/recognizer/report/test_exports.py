import csv
import json
from dataclasses import replace

import pytest

from recognizer.report.exports import FORMATS, export_results
from recognizer.results import ErrorRow
from recognizer.results.errors import OutputUnusable
from recognizer.results.reading import open_stored
from tests.recognizer.commands import call
from tests.recognizer.report.runs import result, write_run

BOX = [20.0, 10.0, 60.0, 30.0]


@pytest.fixture
def whole(tmp_path):
    rows = [
        result("a.jpg", [("snowy owl", "bird"), "cat"], size_wh=(200, 100)),
        replace(result("b.jpg", ["cat"], size_wh=(200, 100)), label=None, status="below"),
        ErrorRow(path="c.jpg", code="E_EMPTY", reason="no bytes"),
    ]
    return open_stored(write_run(tmp_path / "r.jsonl", rows, tmp_path))


@pytest.fixture
def boxed(tmp_path):
    rows = [
        result("a.jpg", ["owl"], size_wh=(200, 100), box=("1", BOX)),
        result("b.jpg", ["cat"], size_wh=(200, 100), box=("1", BOX), confidence=0.9),
        result("a.jpg", ["cat"], size_wh=(200, 100), box=("2", BOX), confidence=0.3),
        replace(result("d.jpg", ["cat"]), label=None, status="empty", candidates=[]),
    ]
    return open_stored(write_run(tmp_path / "boxes.jsonl", rows, tmp_path))


def exported(stored, tmp_path, format, **options):
    assert export_results(stored, tmp_path / "out", format, **options) == len(list(stored.rows()))
    return json.loads((tmp_path / "out").read_text())


def test_label_studio_has_a_task_for_each_image(whole, tmp_path):
    tasks = exported(whole, tmp_path, "labelstudio", prefix="/data/?d=")
    assert [task["data"]["image"] for task in tasks] == ["/data/?d=a.jpg", "/data/?d=b.jpg", "/data/?d=c.jpg"]
    assert [len(task["predictions"]) for task in tasks] == [1, 0, 0]
    (prediction,) = tasks[0]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("an encoder", 0.6)
    (choice,) = prediction["result"]
    assert (choice["type"], choice["value"], choice["from_name"], choice["to_name"]) == (
        "choices",
        {"choices": ["snowy owl"]},
        "label",
        "image",
    )


def test_label_studio_joins_the_boxes_of_an_image(boxed, tmp_path):
    tasks = exported(boxed, tmp_path, "labelstudio")
    assert [len(task["predictions"]) for task in tasks] == [1, 1, 0]
    prediction = tasks[0]["predictions"][0]
    assert prediction["score"] == 0.3
    assert [region["value"]["rectanglelabels"] for region in prediction["result"]] == [["owl"], ["cat"]]
    value = prediction["result"][0]["value"]
    assert [value[side] for side in ("x", "y", "width", "height")] == [10, 10, 20, 20]  # percent
    assert prediction["result"][0]["original_width"] == 200


def test_coco_has_a_result_for_each_candidate(whole, boxed, tmp_path):
    results = exported(whole, tmp_path, "coco")
    assert [(each["file_name"], each["category_name"], each["image_id"]) for each in results] == [
        ("a.jpg", "snowy owl", 1),
        ("a.jpg", "cat", 1),
        ("b.jpg", "cat", 2),
    ]
    assert results[0]["bbox"] == [0, 0, 200, 100]
    assert results[0]["score"] == pytest.approx(0.6)
    results = exported(boxed, tmp_path, "coco")
    assert [(each["image_id"], each["bbox"]) for each in results] == [
        (1, [20, 10, 40, 20]),
        (2, [20, 10, 40, 20]),
        (1, [20, 10, 40, 20]),
    ]
    assert results[1]["category_id"] == results[2]["category_id"] != results[0]["category_id"]


def test_megadetector_keeps_to_its_published_rules(whole, boxed, tmp_path):
    for stored in (whole, boxed):
        document = exported(stored, tmp_path, "megadetector")
        assert document["info"]["format_version"] == "1.6"
        for image in document["images"]:
            assert (image["detections"] is None) == ("failure" in image)
            for detection in image["detections"] or []:
                assert detection["category"] in document["detection_categories"]
                assert all(0 <= share <= 1 for share in detection["bbox"])
                confidences = [confidence for _, confidence in detection["classifications"]]
                assert confidences == sorted(confidences, reverse=True)
                assert {number for number, _ in detection["classifications"]} <= set(
                    document["classification_categories"]
                )
    assert [len(image["detections"]) for image in document["images"]] == [2, 1, 0]
    assert document["images"][0]["detections"][0]["bbox"] == pytest.approx([0.1, 0.1, 0.2, 0.2])


@pytest.mark.parametrize("kind", ["whole", "boxed"])
def test_csv_has_a_line_for_each_candidate(kind, tmp_path, request):
    stored = request.getfixturevalue(kind)
    export_results(stored, tmp_path / "t.csv", "csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["path"] for line in lines] == [row.path for row in stored.rows() for _ in row.candidates or [None]]
    assert ("box_id" in lines[0]) == (kind == "boxed")


def test_a_format_that_is_not_known_is_told_the_nearest(whole, tmp_path):
    code, _, err = call("export-results", whole.path, "--output", tmp_path / "out", "--format", "label-studio")
    assert code == 2
    said = "'coco', 'megadetector', 'labelstudio', 'csv'. Did you mean 'labelstudio'?"
    assert said in " ".join(err.replace("│", " ").split())


def test_an_empty_run_is_an_empty_document(tmp_path):
    stored = open_stored(write_run(tmp_path / "r.jsonl", [], tmp_path))
    assert exported(stored, tmp_path, "labelstudio") == exported(stored, tmp_path, "coco") == []
    assert exported(stored, tmp_path, "megadetector")["images"] == []


def test_the_command_knows_every_format(whole, tmp_path):
    for format in FORMATS:
        code, _, said = call("export-results", whole.path, "--format", format, "--output", tmp_path / format)
        assert code == 0
        assert "3 rows" in said
    before = whole.path.read_bytes()
    with pytest.raises(OutputUnusable, match="choose another"):
        export_results(whole, whole.path, "csv")
    assert whole.path.read_bytes() == before
