import json
from dataclasses import replace

from memory import Category
from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.boxes.outputs import (
    category_ids,
    coco_results,
    file_ids,
    file_image_ids,
    image_ids,
    megadetector_document,
    named_categories,
    write_coco,
    write_megadetector,
)
from recognizer.boxes.plan import BoxItem
from recognizer.hierarchy.rule import LabelRule
from recognizer.results.row import CandidateRow, ErrorRow, ResultRow, RowBox

CATEGORIES = [Category("House Cat"), Category("dog"), Category("fox")]
NAMES = {17: "dog", 18: "house cat", 19: "wolf"}


def boxed(image="a.jpg", xyxy=(10.0, 20.0, 30.0, 60.0), **more):
    box = GivenBox(image=image, xyxy=xyxy, **more)
    return BoxItem(image.encode(), image.encode(), box)


def row(item, *confidences, xyxy=(10, 20, 30, 60), path="a.jpg", code=None):
    box = item.box and RowBox(
        id=item.box.id, xyxy=None if code else xyxy, category=item.box.category, confidence=item.box.confidence
    )
    if code:
        return ErrorRow(path=path, box=box, code=code, reason="so it is")
    candidates = [
        CandidateRow(category=category.name, score=0.1, confidence=confidence)
        for category, confidence in zip(CATEGORIES, confidences, strict=False)
    ]
    status = "ok" if item.box else "empty"
    size = {"width": 100, "height": 200} if item.box else {}
    return ResultRow(
        path=path, box=box, status=status, label=None, confidence=None, calibrated=False, unknown=None,
        candidates=candidates, **size,
    )  # fmt: skip


def file(items, **more):
    return BoxFile(path="x", **{"format": "COCO annotations", "boxes": [i.box for i in items if i.box], **more})


def test_coco_results_have_the_ids_of_the_file_and_both_confidences():
    items = [boxed(image_id=9, category_id=17, confidence=0.5), boxed("b.jpg"), BoxItem(b"c.jpg", b"c.jpg")]
    rows = [row(items[0], 0.25, 0.5, 0.125), row(items[1], code="E_BOX", path="b.jpg"), row(items[2], path="c.jpg")]
    given = file_ids(file(items, categories=NAMES), CATEGORIES)
    assert given == [(17, "dog", ""), (18, "House Cat", ""), (19, "wolf", None)]
    first, second, third = coco_results(
        items, rows, category_ids(given, named_categories(rows)), {"a.jpg": 1, "b.jpg": 2, "c.jpg": 3}
    )
    assert first == {
        "image_id": 9, "category_id": 18, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.125, "file_name": "a.jpg",
        "category_name": "House Cat",
    }  # fmt: skip
    assert (second["category_id"], second["score"]) == (17, 0.25)
    assert third["category_id"] == 20  # free: behind those of the file


def test_ids_of_images_are_counted_where_the_file_has_none_and_pixels_stay_those_of_the_file():
    items = [boxed(), boxed(xyxy=(0.1, 0.1, 0.3, 0.3), shares=True), boxed("b.jpg", frame_hw=(100, 50))]
    rows = [row(item, 1.0, xyxy=(20, 40, 60, 120)) for item in items]
    results = list(coco_results(items, rows, category_ids([], named_categories(rows)), {"a.jpg": 5}))
    assert [result["image_id"] for result in results] == [5, 5, 5]
    assert [result["category_id"] for result in results] == [1, 1, 1]
    assert [result["bbox"] for result in results] == [[10, 20, 20, 40], [20, 40, 40, 80], [10, 20, 20, 40]]


def test_images_without_an_id_in_the_file_are_counted_by_path_behind_its_ids():
    items = [boxed("b.jpg", image_id=7), boxed("b.jpg", image_id=8), boxed("a.jpg", image_id="x"), boxed("c.jpg")]
    given = file_image_ids(items)
    assert given == [(7, "b.jpg"), ("x", "a.jpg")]
    paths = ["e.jpg", "b.jpg", "d.jpg", "e.jpg"]
    assert image_ids(given, paths) == {"b.jpg": 7, "a.jpg": "x", "d.jpg": 8, "e.jpg": 9}
    assert image_ids([], paths) == image_ids([], paths[::-1]) == {"b.jpg": 1, "d.jpg": 2, "e.jpg": 3}


def rolled_up(item):
    """A row whose best category is an owl, and whose label is the group above it."""
    found = [CandidateRow(category="owl", group="animal > bird", score=0.1, confidence=0.4)]
    found.append(CandidateRow(category="fox", group="animal", score=0.1, confidence=0.35))
    made = replace(row(item), candidates=found, group_confidence={"animal": 0.9, "animal > bird": 0.5})
    return made.with_label(LabelRule(thresholds=(0.8,)))


def test_a_label_that_was_rolled_up_stands_in_both_formats():
    item = boxed()
    label = {
        "label": "animal", "label_confidence": 0.9, "label_level": 1, "label_path": "animal", "source": "rolled up"
    }  # fmt: skip
    ids = category_ids([], named_categories([rolled_up(item)]))
    assert ids == {("fox", "animal"): 1, ("owl", "animal > bird"): 2}
    for result in coco_results([item], [rolled_up(item)], ids, {"a.jpg": 1}):
        assert {name: result[name] for name in label} == label
    document = megadetector_document([item], [rolled_up(item)], file([item]), model="x")
    names, paths = document["classification_categories"], document["classification_category_descriptions"]
    ((detection,),) = (image["detections"] for image in document["images"])
    assert [(names[number], share) for number, share in detection["classifications"]] == [
        ("animal", 0.9),
        ("owl", 0.4),
        ("fox", 0.35),
    ]
    assert [paths.get(number) for number, _ in detection["classifications"]] == [
        None,
        "animal > bird > owl",
        "animal > fox",
    ]


def test_the_list_is_json_also_where_it_is_empty(tmp_path):
    for results in ([], [{"a": 1}], [{"a": "\ud800ü"}, {"b": 2}]):
        write_coco(tmp_path / "c.json", results)
        read = json.loads((tmp_path / "c.json").read_text())
        assert [list(each) for each in read] == [list(each) for each in results]


def test_megadetectors_document_stays_and_gets_classifications(tmp_path):
    document = {
        "info": {"format_version": "1.4", "detector": "md_v5a"},
        "detection_categories": {"1": "animal"},
        "classification_categories": {"0": "old"},
        "images": [
            {"file": "a.jpg", "exif": 3, "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.2, 0.2]}]},
            {"file": "b.jpg", "failure": "gone", "detections": None},
        ],
    }
    item = boxed(xyxy=(0.1, 0.1, 0.3, 0.3), shares=True, confidence=0.9, place=(0, 0))
    source = file([item], format="MegaDetector", document=document)
    made = megadetector_document([item], [row(item, 0.2, 0.7)], source, model="the encoder")
    write_megadetector(tmp_path / "md.json", made)
    read = json.loads((tmp_path / "md.json").read_text())
    assert read["classification_categories"] == {"1": "dog", "2": "House Cat"}
    assert read["images"][0]["detections"][0].pop("classifications") == [["1", 0.7], ["2", 0.2]]
    assert read["images"] == document["images"]
    assert read["info"] == {"format_version": "1.4", "detector": "md_v5a", "classifier": "the encoder"}
    assert "classifications" not in document["images"][0]["detections"][0]


def test_boxes_of_other_formats_become_such_a_document():
    items = [boxed(category="cat"), boxed(xyxy=(0, 0, 1, 1)), boxed("b.jpg"), BoxItem(b"c.jpg", b"c.jpg")]
    rows = [
        row(items[0], 0.6, 0.3),
        row(items[1], code="E_BOX"),
        row(items[2], code="E_NOT_FOUND", path="b.jpg"),
        row(items[3], path="c.jpg"),
    ]
    made = megadetector_document(items, rows, file(items), model="the encoder")
    first, second, third = made["images"]
    (detection,) = first["detections"]
    assert (detection["category"], detection["conf"], detection["bbox"]) == ("1", 1.0, [0.1, 0.1, 0.2, 0.2])
    assert detection["classifications"] == [["1", 0.6], ["2", 0.3]]
    assert made["detection_categories"] == {"1": "cat"}
    assert (second["detections"], second["failure"]) == (None, "E_NOT_FOUND: so it is")
    assert third == {"file": "c.jpg", "detections": []}
