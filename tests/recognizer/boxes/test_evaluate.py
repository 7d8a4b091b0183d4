"""Figures of made-up rows, whose values follow by hand."""

import json

import pytest

from memory import Category
from recognizer.boxes.evaluate import evaluate_boxes, size_of
from recognizer.boxes.formats import read_annotated, read_detected
from recognizer.boxes.plan import plan_boxes
from recognizer.boxes.rows import empty_row
from recognizer.errors import RecognizerError
from recognizer.images import list_images
from recognizer.results.row import CandidateRow, ErrorRow, ResultRow, RowBox

CATEGORIES = [Category("cat", aliases=("Felis catus",)), Category("dog"), Category("fox")]


@pytest.fixture
def folder(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).touch()
    return tmp_path


def annotated(folder, boxes, names=("felis catus", "dog", "gnu")):
    document = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in (1, 2, 3)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": [x, 0, side, side], "iscrowd": crowd}
            for number, (image, category, x, side, crowd) in enumerate(boxes)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return plan_boxes(read_annotated(folder / "a.json"), list_images([folder]))


def answers(plan, *rankings):
    """A row per item: the names given for the boxes that are there, in turn; an error for the others."""
    remaining = iter(rankings)
    rows = []
    for item in plan.items:
        if item.box is None:
            rows.append(empty_row(item))
            continue
        box = RowBox(id=item.box.id, xyxy=item.box.xyxy)
        if item.problem:
            rows.append(ErrorRow(path=item.key, box=box, code=item.problem.code, reason="gone"))
            continue
        candidates = [
            CandidateRow(category=name, score=0.1, confidence=0.9 - 0.2 * place)
            for place, name in enumerate(next(remaining))
        ]
        rows.append(
            ResultRow(path=item.key, box=box, label=None, confidence=None, calibrated=False, unknown=None,
                      candidates=candidates)
        )  # fmt: skip
    return rows


def test_each_true_box_counts_by_its_size_unless_it_is_a_crowd_unknown_or_gone(folder):
    boxes = [(1, 1, 0, 20, 0), (1, 2, 100, 50, 0), (2, 2, 0, 200, 0), (2, 3, 300, 200, 0), (2, 2, 600, 99, 1)]
    plan = annotated(folder, [*boxes, (3, 1, 0, 20, 0)])
    rows = answers(plan, ["cat", "dog"], ["cat", "dog"], ["dog"], ["cat"], ["dog"])
    figures = evaluate_boxes(plan, plan, rows, CATEGORIES)
    values = {size: (each.boxes, each.top1.value, each.top5.value) for size, each in figures.accuracy.items()}
    assert values == {
        "small": (1, 1, 1), "medium": (1, 0, 1), "large": (1, 1, 1), "all": (3, pytest.approx(2 / 3), 1),
    }  # fmt: skip
    assert (figures.boxes, figures.failed, figures.unmatched) == (5, {"E_NOT_FOUND": 1}, {"gnu": 1})
    # Cat: true at 0.9 beside false alarms at 0.9 on the dog and on the gnu. Dog: all found, best first.
    assert figures.precision["AP50"] > 0.6
    assert figures.precision["APs"] == 1


def test_perfect_answers_have_a_precision_of_one(folder):
    plan = annotated(folder, [(1, 1, 0, 20, 0), (1, 2, 100, 50, 0), (2, 2, 0, 200, 0)])
    figures = evaluate_boxes(plan, plan, answers(plan, ["cat"], ["dog"], ["dog"]), CATEGORIES)
    assert set(figures.precision.values()) == {1}


def test_detections_count_for_the_object_that_they_lie_on(folder):
    truth = annotated(folder, [(1, 1, 0, 100, 0), (1, 2, 200, 100, 0)])
    found = [(10, 100, 0.8), (199, 100, 0.6), (500, 100, 0.9)]
    detections = [{"image_id": 1, "bbox": [x, 0, side, side], "score": score} for x, side, score in found]
    (folder / "d.json").write_text(json.dumps(detections))
    plan = plan_boxes(read_detected(folder / "d.json", truth.file), list_images([folder]))
    rows = answers(plan, ["cat"], ["fox", "dog"], ["cat"])
    figures = evaluate_boxes(truth, plan, rows, CATEGORIES)
    assert figures.unknown == 1
    assert (figures.accuracy["all"].boxes, figures.accuracy["all"].top1.value) == (2, 0.5)
    assert figures.accuracy["all"].top5.value == 1
    # The false alarm for the cat is surer (0.9 of the detector), so its precision is one half.
    assert figures.precision["AP50"] == pytest.approx((0.5 + 1) / 2, abs=0.01)


def test_an_annotation_that_is_no_box_hides_no_other_object(folder):
    annotated(folder, [(1, 1, 0, 100, 0), (1, 2, 200, 100, 0)])
    document = json.loads((folder / "a.json").read_text())
    document["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]})
    (folder / "a.json").write_text(json.dumps(document))
    truth = plan_boxes(read_annotated(folder / "a.json"), list_images([folder]))
    (folder / "d.json").write_text(json.dumps([{"image_id": 1, "bbox": [0, 0, 99, 99], "score": 0.8}]))
    plan = plan_boxes(read_detected(folder / "d.json", truth.file), list_images([folder]))
    figures = evaluate_boxes(truth, plan, answers(plan, ["cat"]), CATEGORIES)
    assert (figures.unknown, figures.accuracy["all"].boxes) == (0, 1)


def test_annotations_without_a_usable_object_are_refused(folder):
    plan = annotated(folder, [(3, 1, 0, 20, 0)])
    with pytest.raises(RecognizerError, match="no object whose image is there"):
        evaluate_boxes(plan, plan, answers(plan), CATEGORIES)


def test_sizes_are_those_of_coco(folder):
    plan = annotated(folder, [(1, 1, 0, side, 0) for side in (31, 32, 95, 96)])
    assert [size_of(item.box) for item in plan.items if item.box] == ["small", "medium", "medium", "large"]
