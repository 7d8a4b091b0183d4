"""Each format of boxes as its tools write it, and what goes wrong in them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.boxes.errors import BoxFileError
from recognizer.boxes.formats import read_annotated, read_boxes, read_detected
from recognizer.boxes.formats.megadetector import sure_boxes

COCO = {
    "images": [{"id": 7, "file_name": "a/1.jpg", "width": 100, "height": 50}, {"id": 8, "file_name": "2.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 30], "area": 450, "iscrowd": 0},
        {"id": 2, "image_id": 8, "category_id": 4, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        {"id": 3, "image_id": 9, "category_id": 3, "bbox": [0, 0, 4, 4]},
        {"id": 4, "image_id": 7, "category_id": 3, "segmentation": []},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
}


def written(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_coco_annotations(tmp_path):
    file = read_boxes(written(tmp_path, COCO))
    assert (file.format, file.by, file.categories) == ("COCO annotations", "path", {3: "cat", 4: "dog"})
    one, two = file.boxes
    assert (one.image, one.xyxy, one.shares, one.frame_hw) == ("a/1.jpg", (10, 5, 30, 35), False, (50, 100))
    assert (one.category, one.confidence, one.area) == ("cat", None, 450)
    assert (one.image_id, one.category_id, one.annotation_id, one.is_crowd) == (7, 3, 1, False)
    assert (two.image, two.frame_hw, two.is_crowd, two.area) == ("2.jpg", None, True, None)
    assert sum(file.left_out.values()) == 2


def test_lvis_names_images_by_their_address(tmp_path):
    lvis = {
        "images": [{"id": 1, "coco_url": "http://images.cocodataset.org/val2017/000000000001.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}],
        "categories": [{"id": 1, "name": "aerosol_can", "frequency": "c"}],
    }
    file = read_annotated(written(tmp_path, lvis))
    assert file.format == "LVIS annotations"
    assert file.boxes[0].image == "val2017/000000000001.jpg"


def test_coco_detections_by_number_by_name_and_by_annotations(tmp_path):
    plain = [{"image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}, {"image_id": 7}]
    path = written(tmp_path, plain)
    file = read_boxes(path)
    assert (file.by, file.boxes[0].image, file.boxes[0].xyxy) == ("stem", "7", (1, 2, 4, 6))
    assert (file.boxes[0].category, file.boxes[0].confidence) == ("4", 0.5)
    assert sum(file.left_out.values()) == 1
    named = read_boxes(written(tmp_path, [plain[0] | {"file_name": "x.jpg"}], "named.json"))
    assert (named.by, named.boxes[0].image) == ("path", "x.jpg")
    known = read_detected(path, read_boxes(written(tmp_path, COCO, "annotations.json")))
    assert (known.by, known.boxes[0].image, known.boxes[0].category) == ("path", "a/1.jpg", "dog")
    assert known.boxes[0].frame_hw == (50, 100)


def test_megadetector_and_speciesnet(tmp_path):
    detection = {"category": "1", "conf": 0.9, "bbox": [0.1, 0.2, 0.3, 0.4]}
    megadetector = {
        "info": {"format_version": "1.4"},
        "detection_categories": {"1": "animal"},
        "images": [
            {"file": "a.jpg", "detections": [detection]},
            {"file": "b.jpg", "failure": "image access failure", "detections": None},
            {"file": "c.jpg", "detections": []},
        ],
    }
    file = read_boxes(written(tmp_path, megadetector))
    (box,) = file.boxes
    assert (file.format, box.image, box.shares, box.place) == ("MegaDetector", "a.jpg", True, (0, 0))
    assert (box.category, box.confidence) == ("animal", 0.9)
    assert box.displayed((100, 200)) == pytest.approx((20, 20, 80, 60))
    assert file.left_out.total() == 1
    predictions = {"predictions": [{"filepath": "a.jpg", "detections": [detection | {"label": "human"}]}]}
    (box,) = read_boxes(written(tmp_path, predictions)).boxes
    assert (box.image, box.category, box.shares) == ("a.jpg", "human", True)


def test_boxes_of_megadetector_that_are_not_sure_are_left_out(tmp_path):
    confidences = [0.2, 0.199, None]
    detections = [{"conf": conf, "bbox": [0.1, 0.2, 0.3, 0.4]} for conf in confidences]
    file = read_boxes(written(tmp_path, {"images": [{"file": "a.jpg", "detections": detections}]}))
    sure = sure_boxes(file, 0.2)
    assert [box.confidence for box in sure.boxes] == [0.2, None]
    assert sure.left_out == {"boxes of confidence below 0.2 (boxes.least_confidence)": 1}
    assert sure_boxes(file, 0).left_out == {}
    others = read_boxes(written(tmp_path, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.01}]))
    assert sure_boxes(others, 0.2) is others


def test_yolo_boxes_outlines_and_confidences(tmp_path):
    folder = tmp_path / "labels"
    (folder / "sub").mkdir(parents=True)
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4 0.75\n\n3 0.1\n")
    (folder / "sub" / "b.txt").write_text("7 0.1 0.2 0.5 0.3 0.3 0.6\n")
    file = read_boxes(folder)
    first, second, outline = file.boxes
    assert (file.by, first.image, first.category, first.confidence) == ("stem", "a", "dog", None)
    assert first.xyxy == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert (second.category, second.confidence) == ("cat", 0.75)
    assert (outline.image, outline.category, outline.xyxy) == ("sub/b", "7", (0.1, 0.2, 0.5, 0.6))
    assert file.left_out.total() == 1


@pytest.mark.parametrize(
    "text",
    [
        "path,x1,y1,x2,y2,label,score\na.jpg,1,2,3,4,cat,0.5\n",
        "a.jpg,1,2,3,4,cat,0.5\n",
        "score;label;ymax;xmax;ymin;xmin;filename\n0.5;cat;4;3;2;1;a.jpg\n",
        "Image\tX_min\tY_min\tX_max\tY_max\tclass\tconfidence\na.jpg\t1\t2\t3\t4\tcat\t0.5\n",
    ],
)
def test_tables_with_and_without_a_header(tmp_path, text):
    (box,) = read_boxes(written(tmp_path, text, "boxes.csv")).boxes
    assert (box.image, box.xyxy, box.category, box.confidence) == ("a.jpg", (1, 2, 3, 4), "cat", 0.5)


def test_entries_with_bad_numbers_are_kept_and_short_lines_counted(tmp_path):
    file = read_boxes(written(tmp_path, "path,x1,y1,x2,y2\na.jpg,one,2,3,4\na.jpg,1,2\n,1,2,3,4\n", "boxes.csv"))
    assert math.isnan(file.boxes[0].xyxy[0])
    assert (len(file.boxes), file.left_out.total()) == (1, 2)
    entry = {"id": 1, "image_id": 7, "category_id": 3, "bbox": ["x", None, [], 4]}
    (box,) = read_boxes(written(tmp_path, COCO | {"annotations": [entry]})).boxes
    assert all(map(math.isnan, box.xyxy[:3]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1, 2]", "not of detections"),
        ('{"classes": []}', "'classes', which no format has"),
        ("", "the file is empty"),
        ("name,weight\na,1\n", "needs the columns path, x1"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, content, reason):
    with pytest.raises(BoxFileError, match=reason):
        read_boxes(written(tmp_path, content, "boxes.txt"))


def test_missing_and_empty_sources_are_refused(tmp_path):
    with pytest.raises(BoxFileError, match="no such file of boxes"):
        read_boxes(tmp_path / "none.json")
    with pytest.raises(BoxFileError, match=r"has no \.txt file"):
        read_boxes(tmp_path)
    with pytest.raises(BoxFileError, match="holds CSV"):
        read_annotated(written(tmp_path, "a.jpg,1,2,3,4\n", "boxes.csv"))
    annotated = read_boxes(written(tmp_path, COCO))
    with pytest.raises(BoxFileError, match="no list of COCO detections"):
        read_detected(annotated.path, annotated)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "bbox", "file"]), inner),
    max_leaves=6,
)
ENTRY = st.dictionaries(
    st.sampled_from(["id", "image_id", "category_id", "bbox", "file", "filepath", "file_name", "detections", "score"]),
    ANY | st.lists(st.fixed_dictionaries({"bbox": ANY, "category": ANY, "conf": ANY}), max_size=2),
)


@given(st.sampled_from(["annotations", "predictions", "detection_categories", None]), st.lists(ENTRY | ANY, max_size=4))
def test_json_of_any_shape_is_read_or_refused(tmp_path_factory, kind, entries):
    document = entries if kind is None else {"images": entries, kind: entries, "categories": entries}
    path = written(tmp_path_factory.mktemp("any"), document)
    try:
        file = read_boxes(path)
    except BoxFileError:
        return
    for box in file.boxes:
        assert len(box.id) == 12
