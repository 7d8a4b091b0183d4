import math
from dataclasses import replace

import pytest

from recognizer.boxes.given import GivenBox
from recognizer.images import ImageError

BOX = GivenBox(image="a.jpg", xyxy=(10, 20, 30, 60))


def test_pixels_shares_and_copies_of_another_size_become_displayed_pixels():
    assert BOX.displayed((100, 200)) == (10, 20, 30, 60)
    assert replace(BOX, frame_hw=(100, 200)).displayed((100, 200)) == (10, 20, 30, 60)
    assert replace(BOX, frame_hw=(50, 100)).displayed((100, 200)) == (20, 40, 60, 100)
    assert replace(BOX, frame_hw=(67, 100)).displayed((669, 1000)) == pytest.approx((100, 199.7, 300, 599.1), abs=0.1)
    shares = GivenBox(image="a.jpg", xyxy=(0.1, 0.2, 0.5, 1.0), shares=True, frame_hw=(1, 9))
    assert shares.displayed((100, 200)) == pytest.approx((20, 20, 100, 100))


def test_a_box_is_clipped_to_the_image():
    assert replace(BOX, xyxy=(-5, -5, 300, 10)).displayed((100, 200)) == (0, 0, 200, 10)


@pytest.mark.parametrize(
    ("box", "code", "reason"),
    [
        (replace(BOX, xyxy=(10, 20, 10, 60)), "E_BOX", "no area"),
        (replace(BOX, xyxy=(30, 20, 10, 60)), "E_BOX", "no area"),
        (replace(BOX, xyxy=(200, 20, 230, 60)), "E_BOX", "outside of the image of 200×100"),
        (replace(BOX, xyxy=(math.nan, 20, 230, 60)), "E_BOX", "no finite number"),
        (replace(BOX, xyxy=(0, 20, math.inf, 60)), "E_BOX", "no finite number"),
        (replace(BOX, frame_hw=(200, 100)), "E_FRAME", "before it is turned as its EXIF says"),
        (replace(BOX, frame_hw=(80, 200)), "E_FRAME", "displayed with 200×100$"),
    ],
)
def test_boxes_that_cannot_be_placed_say_why(box, code, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        box.displayed((100, 200))
    assert caught.value.code == code


def test_the_id_follows_what_the_file_says():
    changes = [
        {"xyxy": (10, 20, 30, 60.5)},
        {"shares": True},
        {"frame_hw": (2, 3)},
        {"category": "cat"},
        {"confidence": 0.5},
        {"image_id": 3},
        {"annotation_id": 3},
        {"image": "b.jpg"},
    ]
    ids = [BOX.id, *(replace(BOX, **change).id for change in changes)]
    assert len(set(ids)) == len(ids)
    assert replace(BOX, area=7.0, place=(1, 2)).id == BOX.id
    assert replace(BOX, image="\ud800", xyxy=(math.nan,) * 4).id
