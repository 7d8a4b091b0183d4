import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recognizer.encoder.preprocessing import Preprocessing

sides = st.integers(1, 900)
sizes = st.tuples(sides, sides)
geometries = st.sampled_from(["squash", "crop", "letterbox"])


def preprocessing(geometry, size_hw=(64, 64)):
    return Preprocessing(size_hw=size_hw, geometry=geometry, mean=(0.5,) * 3, std=(0.5,) * 3, fill=127)


@given(
    size_hw=sizes, displayed_hw=sizes, geometry=geometries, corners=st.lists(st.floats(0, 1), min_size=4, max_size=4)
)
def test_boxes_survive_the_way_to_the_input_and_back(size_hw, displayed_hw, geometry, corners):
    image = Image.new("RGB", (size_hw[1], size_hw[0]))
    _, frame = preprocessing(geometry).pixels(image, displayed_hw)
    height, width = displayed_hw
    box = np.array([corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height])
    tolerance = 1e-3 * max(1.0, *displayed_hw)
    np.testing.assert_allclose(frame.to_displayed(frame.to_input(box)), box, atol=tolerance)


@given(size_hw=sizes, geometry=geometries, box=st.lists(st.floats(-10, 80), min_size=4, max_size=4))
def test_displayed_boxes_lie_within_the_image(size_hw, geometry, box):
    _, frame = preprocessing(geometry).pixels(Image.new("RGB", (size_hw[1], size_hw[0])))
    x0, y0, x1, y1 = frame.to_displayed(np.array(box))
    assert 0 <= min(x0, x1) <= max(x0, x1) <= size_hw[1]
    assert 0 <= min(y0, y1) <= max(y0, y1) <= size_hw[0]


def test_a_mark_is_found_again_in_every_geometry():
    picture = Image.new("RGB", (400, 200))
    picture.paste((255, 255, 255), (180, 60, 240, 120))
    for geometry in ("squash", "crop", "letterbox"):
        pixels, frame = preprocessing(geometry, (100, 100)).pixels(picture)
        rows, columns = np.nonzero(pixels[0].numpy() > 200)
        found = frame.to_displayed(
            np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
        )
        np.testing.assert_allclose(found, [180, 60, 240, 120], atol=4.5)


def test_a_reduced_decode_gives_boxes_of_the_displayed_image():
    _, frame = preprocessing("squash").pixels(Image.new("RGB", (100, 50)), displayed_size_hw=(400, 800))
    np.testing.assert_allclose(frame.to_displayed(np.array([0, 0, 32, 64.0])), [0, 0, 400, 400])


def test_padding_is_not_visible():
    _, frame = preprocessing("letterbox").pixels(Image.new("RGB", (200, 100)))
    boxes = np.array([[0, 0, 64, 16], [0, 16, 64, 48], [0, 0, 64, 32.0]])
    np.testing.assert_allclose(frame.visible_share(boxes), [0, 1, 0.5])
