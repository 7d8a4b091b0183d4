import numpy as np
import pytest

from recognizer.boxes.auto import find_objects, objects_file
from recognizer.boxes.settings import BoxSettings
from recognizer.encoder import ImageFeatures
from recognizer.results.row import ErrorRow, FoundLabel, ResultRow


def features(weights, boxes):
    count = len(weights)
    vectors = np.zeros((1, count, 4), np.float32)
    return ImageFeatures(
        image=np.zeros((1, 4), np.float32),
        regions=vectors,
        boxes_xyxy=np.array(boxes, np.float32)[None],
        region_weight=np.array(weights, np.float32)[None],
        region_area=np.zeros((1, count), np.float32),
    )


BOXES = [(0, 0, 10, 10), (1, 0, 11, 10), (20, 0, 30, 10), (0, 20, 10, 30), (40, 0, 40.5, 10)]


def found(weights, **settings):
    return [
        (BOXES.index(tuple(each.box_xyxy)), pytest.approx(each.presence))
        for each in find_objects(features(weights, BOXES), BoxSettings(**settings))
    ]


def test_the_heaviest_of_regions_that_overlap_is_the_object():
    assert found([0.6, 0.9, 0.3, 0.29, 1.0]) == [(1, 0.9), (2, 0.3)]
    assert found([0.9, 0.6, 0.3, 0.29, 1.0], nms_overlap=0.9) == [(0, 0.9), (1, 0.6), (2, 0.3)]
    assert found([0.9, 0.6, 0.8, 0.7, 1.0], most=2) == [(0, 0.9), (2, 0.8)]
    assert found([0.9, 0.6, 0.3, 0.29, 1.0], least_weight=0.5) == [(0, 0.9)]
    assert found([0.1] * 5) == []


def test_an_image_without_objects_is_one_itself():
    shared = {"label": None, "confidence": None, "calibrated": False, "unknown": None, "candidates": []}
    label = FoundLabel(category="", presence=0.7, box_xyxy=(1, 2, 3, 4))
    rows = [
        ResultRow(path="a.jpg", labels=[label], **shared),
        ResultRow(path="b.jpg", labels=[], **shared),
        ErrorRow(path="c.jpg", code="E_DECODE", reason="damaged"),
    ]
    one, whole, broken = objects_file(iter(rows), "r.jsonl").boxes
    assert (one.image, one.xyxy, one.shares, one.confidence) == ("a.jpg", (1, 2, 3, 4), False, 0.7)
    for box, path in ((whole, "b.jpg"), (broken, "c.jpg")):
        assert (box.image, box.displayed((50, 80)), box.confidence) == (path, (0, 0, 80, 50), None)
