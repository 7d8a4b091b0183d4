"""Features of boxes: those of the crop in the frame of the image, with the regions of the whole image that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.boxes.encode import encode_boxes, share_inside
from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.boxes.plan import plan_boxes
from recognizer.images import list_images
from recognizer.settings import load_settings

EDGE = st.floats(0, 50, width=32)


@given(st.tuples(EDGE, EDGE, EDGE, EDGE), st.tuples(EDGE, EDGE, EDGE, EDGE))
def test_the_share_inside_is_that_of_the_area(region, box):
    region, box = ((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)) for x0, y0, x1, y1 in (region, box))
    share = share_inside(np.array(region, np.float32)[None, None], np.array(box, np.float32)[None])[0, 0]
    area = (region[2] - region[0]) * (region[3] - region[1])
    width = max(0, min(region[2], box[2]) - max(region[0], box[0]))
    height = max(0, min(region[3], box[3]) - max(region[1], box[1]))
    assert share == pytest.approx(width * height / area if area > 1e-20 else share, abs=1e-3)


@pytest.fixture(scope="module")
def encoded(starter, photos):
    boxes = [(60, 40, 260, 240), (60, 40, 261, 240), (900, 0, 901, 1)]
    given = [GivenBox(image="cat.jpg", xyxy=box) for box in boxes] + [GivenBox(image="none.jpg", xyxy=(0, 0, 1, 1))]
    listing = list_images([photos / "cat.jpg", photos / "coffee.jpg"])
    plan = plan_boxes(BoxFile(path=photos / "b.csv", format="CSV", boxes=given), listing)
    settings = load_settings(overrides=["run.workers=1"])
    (batch,) = encode_boxes(starter, [(0, plan.items)], settings=settings)
    return batch, settings


def test_boxes_that_fail_and_images_without_a_box_take_no_place_among_the_features(encoded):
    batch, _ = encoded
    assert [error and error.code for error in batch.errors] == [None, None, "E_BOX", None, "E_NOT_FOUND"]
    assert batch.positions == [0, 1]
    assert len(batch.features) == len(batch.hashes) == 2
    assert batch.boxes[:2] == [(60, 40, 260, 240), (60, 40, 261, 240)]
    assert batch.boxes[2:] == [None] * 3


def test_regions_of_the_crop_lie_in_the_image_and_those_of_the_whole_image_fit_the_box(encoded, starter, photos):
    batch, settings = encoded
    whole = starter.encode_images([photos / "cat.jpg"])
    count = whole.regions.shape[1]
    features = batch.features
    assert features.regions.shape[1] == 2 * count
    height, width = batch.sizes_hw[0]
    assert (features.boxes_xyxy[..., 2] <= width).all()
    assert (features.boxes_xyxy[..., 3] <= height).all()
    visible = features.region_weight[0] >= settings.score.region_threshold
    seen = features.boxes_xyxy[0, :count][visible[:count]]
    assert len(seen)
    # At least half of each lies in the box.
    assert (share_inside(seen[None], np.array([batch.boxes[0]], np.float32))[0] >= 0.5).all()
    joined = features.boxes_xyxy[0, count:]
    assert np.allclose(joined, whole.boxes_xyxy[0], atol=1)
    kept = features.region_weight[0, count:] > 0
    for box, keeps in zip(joined, kept, strict=True):
        overlap = share_inside(box[None, None], np.array([batch.boxes[0]], np.float32))[0, 0]
        assert not keeps or overlap > settings.boxes.region_overlap - 0.01


def test_features_do_not_depend_on_the_other_boxes(encoded, starter, photos):
    batch, settings = encoded
    listing = list_images([photos / "cat.jpg", photos / "coffee.jpg"])
    given = [GivenBox(image="cat.jpg", xyxy=(60, 40, 261, 240))]
    plan = plan_boxes(BoxFile(path=photos / "b.csv", format="CSV", boxes=given), listing)
    (alone,) = encode_boxes(starter, [(0, plan.items[:1])], settings=settings)
    for name in ("image", "regions", "boxes_xyxy", "region_weight", "region_area"):
        assert (getattr(alone.features, name)[0] == getattr(batch.features, name)[1]).all()


def test_no_box_at_all_opens_no_image(starter, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    plan = plan_boxes(BoxFile(path=tmp_path / "b.csv", format="CSV", boxes=[]), list_images(tmp_path))
    (batch,) = encode_boxes(starter, [(0, plan.items)], settings=load_settings())
    assert (batch.errors, batch.boxes, batch.features, batch.positions) == ([None], [None], None, [])
